from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from simulacra.editing.config import EditingConfig

CONF = Path(__file__).resolve().parents[2] / "conf/base/parameters/editing.yml"


def test_the_file_lists_every_parameter_with_its_default() -> None:
    block = yaml.safe_load(CONF.read_text())["editing"]
    assert set(block) == set(EditingConfig.model_fields)
    assert EditingConfig.model_validate(block) == EditingConfig()


def test_a_command_line_s_numbers_stand_for_a_name_and_for_a_list(tmp_path: Path) -> None:
    config = EditingConfig.model_validate({"images": str(tmp_path), "class_name": 7, "strength": 0.4})
    assert config.class_name == "7" and config.strength == (0.4,)
    assert EditingConfig(mask="left").files() == []
    mask = tmp_path / "mask.png"
    mask.write_bytes(b"")
    assert EditingConfig(images=tmp_path, mask=str(mask)).files() == [tmp_path, mask]
    assert EditingConfig(mask=str(mask), box=(0, 0, 1, 0.5)).files() == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"images": "nowhere.png"}, "nowhere.png does not exist: correct the path"),
        ({"mask": "centre"}, "'centre' is neither a mask's name nor a picture file; did you mean 'center'?"),
        ({"mask": "nowhere.png"}, "'nowhere.png' is neither a mask's name nor a picture file; there are center, left"),
        ({"strength": 1.5}, "less than or equal to 1"),
        ({"strength": [0.5, -0.1]}, "greater than or equal to 0"),
        ({"strength": []}, "at least 1 item"),
        ({"box": [0, 0, 0, 1]}, "box must be top, left, height, width, the last two above 0"),
        ({"box": [-1, 0, 3, 3]}, "box must be top, left, height, width"),
        ({"resamplings": 0}, "greater than or equal to 1"),
        ({"maks": "left"}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run(block: dict, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        EditingConfig.model_validate(block)
    assert message in str(raised.value)

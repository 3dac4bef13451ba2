import inspect
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import AbstractDataset, DatasetError

from simulacra import files
from simulacra.datasets import CheckedDataset, OptionalDataset
from simulacra.errors import SimulacraError
from simulacra.plotting import training_curves

CSV = {"type": "pandas.CSVDataset", "save_args": {"index": False}}
HISTORY = pd.DataFrame({"step": [1, 2], "split": "train", "name": "loss", "value": [0.5, math.nan]})


def record(tmp_path: Path) -> CheckedDataset:
    return CheckedDataset(str(tmp_path / "record.json"), "json.JSONDataset")


@pytest.mark.parametrize(
    ("name", "dataset", "data"),
    [
        ("a.json", "json.JSONDataset", {"n": 3, "seeds": [1, 2], "best": None, "mean": 0.1}),
        ("a.json", {"type": "json.JSONDataset", "save_args": {"indent": None}}, [1.5, "ä", True]),
        ("a.txt", "text.TextDataset", "page ✓"),
    ],
)
def test_data_return_as_they_were_under_a_seal(tmp_path: Path, name: str, dataset: str, data: object) -> None:
    checked = CheckedDataset(str(tmp_path / "a" / name), dataset)
    assert not checked.exists()
    checked.save(data)
    assert checked.load() == data and checked.fingerprint() == files.check(tmp_path / "a" / name)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {name, f".{name}.seal"}


def test_the_wrapped_dataset_writes_what_it_would_write_alone(tmp_path: Path) -> None:
    alone = AbstractDataset.from_config("alone", CSV | {"filepath": str(tmp_path / "alone.csv")})
    alone.save(HISTORY)
    checked = CheckedDataset(str(tmp_path / "checked.csv"), CSV)
    checked.save(HISTORY)
    assert (tmp_path / "checked.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    pd.testing.assert_frame_equal(checked.load(), HISTORY)


def test_a_figure_is_saved_and_previewed_and_says_that_it_cannot_be_loaded(tmp_path: Path) -> None:
    figure = CheckedDataset(str(tmp_path / "curves.png"), "matplotlib.MatplotlibDataset")
    figure.save(training_curves(HISTORY))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DatasetError, match="Loading not supported for 'MatplotlibDataset'"):
        figure.load()


@pytest.mark.parametrize(
    ("dataset", "data", "annotation"),
    [
        ("json.JSONDataset", {"n": 3}, "JSONPreview"),
        (CSV, HISTORY, "TablePreview"),
        ("matplotlib.MatplotlibDataset", None, "ImagePreview"),
    ],
)
def test_previews_are_the_wrapped_dataset_s(tmp_path: Path, dataset: str, data: object, annotation: str) -> None:
    """Looked for and called as kedro-viz does it."""
    checked = CheckedDataset(str(tmp_path / "x"), dataset)
    checked.save(training_curves(HISTORY) if data is None else data)
    assert inspect.signature(checked.preview).return_annotation == annotation
    assert checked.preview() and checked._describe()["filepath"] == str(tmp_path / "x")


def test_a_dataset_without_preview_has_none(tmp_path: Path) -> None:
    assert not hasattr(CheckedDataset(str(tmp_path / "x"), "text.TextDataset"), "preview")


def test_it_travels_to_another_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(record(tmp_path)))
    dataset.save({"n": 3})
    assert dataset.load() == {"n": 3} == json.loads(dataset.preview())


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"metrics": {"fd": {"value": math.nan}}}, r"metrics\.fd\.value = nan"),
        ([{"row": "floor"}, {"std": -math.inf}], r"\[1\]\.std = -inf"),
        ({"per_seed": (1.0, np.float64("inf"))}, r"per_seed\[1\] = inf"),
    ],
)
def test_a_number_that_json_does_not_have_is_refused_by_its_key(tmp_path: Path, data: object, key: str) -> None:
    dataset = record(tmp_path)
    dataset.save({"n": 3})
    with pytest.raises(DatasetError, match=rf"record\.json cannot hold {key}") as caught:
        dataset.save(data)
    assert isinstance(caught.value.__cause__, SimulacraError) and dataset.load() == {"n": 3}


def test_a_record_that_json_cannot_hold_leaves_the_former_one(tmp_path: Path) -> None:
    dataset = record(tmp_path)
    dataset.save({"n": 3})
    with pytest.raises(DatasetError, match="not JSON serializable"):
        dataset.save({"n": 3, "array": np.zeros(2)})
    assert dataset.load() == {"n": 3}
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", ".record.json.seal"}


@pytest.mark.parametrize("content", [b'{"n": ', b"", b"\x80\x04\x95"])
def test_damage_is_refused_by_name_and_so_is_what_is_sealed_but_not_json(tmp_path: Path, content: bytes) -> None:
    dataset = record(tmp_path)
    dataset.save({"n": 3})
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"record\.json is damaged: it has \d bytes"):
        dataset.load()
    files.write(tmp_path / "record.json", lambda path: path.write_bytes(content))
    with pytest.raises(DatasetError, match=r"record\.json was written by another version") as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, SimulacraError)


def test_a_wrong_type_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'JSNDataset' not found in 'json'"):
        CheckedDataset(str(tmp_path / "x"), "json.JSNDataset")


def test_an_optional_file_is_none_where_it_is_not_there_and_refused_where_it_is_damaged(tmp_path: Path) -> None:
    optional = OptionalDataset(str(tmp_path / "record.json"), "json.JSONDataset")
    assert optional.load() is None and optional.exists() and (absent := optional.fingerprint()) is not None
    optional.save({"n": 3})
    assert optional.load() == {"n": 3} and optional.fingerprint() not in (absent, None)
    (tmp_path / "record.json").write_text("{}")
    assert optional.fingerprint() is None and not optional.exists()
    with pytest.raises(DatasetError, match=r"record\.json is damaged"):
        optional.load()

"""Tests of the `retraining:` block: what it refuses, and that the file of conf/base says what it should."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from simulacra.metrics import METRICS
from simulacra.retraining.config import CostCeilings, GateConfig, Margin, RetrainingConfig, WhenConfig

FILE = Path(__file__).resolve().parents[2] / "conf/base/parameters/retraining.yml"


def test_the_file_of_conf_base_is_the_whole_block():
    block = yaml.safe_load(FILE.read_text())
    assert list(block) == ["retraining"]
    config = RetrainingConfig.model_validate(block["retraining"])
    assert set(block["retraining"]) == set(RetrainingConfig.model_fields)
    assert set(block["retraining"]["when"]) == set(WhenConfig.model_fields)
    assert set(block["retraining"]["gate"]) == set(GateConfig.model_fields)
    assert set(block["retraining"]["gate"]["costs"]) == set(CostCeilings.model_fields)
    assert set(config.gate.margins) <= set(config.gate.noise), "what is guarded has been measured"
    assert "fd_classifier" in config.gate.margins and config.gate.noise["fd_classifier"] > 0


def test_every_field_is_described():
    for model in (RetrainingConfig, WhenConfig, GateConfig, CostCeilings, Margin):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"famlies": None}, "Extra inputs are not permitted"),
        ({"families": ["vea"]}, "there is no family 'vea'"),
        ({"families": ["vae", "vae"]}, "each family once"),
        ({"families": []}, "one at least"),
        ({"when": {"drift": 0}}, "greater than 0"),
        ({"when": {"decay": {"relative": 0.1, "absolute": 1}}}, "either relative or absolute"),
        ({"when": {"decay": {}}}, "either relative or absolute"),
        ({"gate": {"margins": {"fid_classifier": {"relative": 0.1}}}}, "there is no metric 'fid_classifier'"),
        ({"gate": {"noise": {"recall": -0.1}}}, "greater than or equal to 0"),
        ({"gate": {"noise": {"recall": float("inf")}}}, "finite number"),
        ({"gate": {"refusing_flags": ["collapse"]}}, "no sentinel raises 'collapse'"),
        ({"gate": {"refusing_verdicts": ["harms"]}}, "'hurts'"),
        ({"gate": {"costs": {"sample_ms": 0}}}, "greater than 0"),
        ({"gate": {"confidence": 1}}, "less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(block, message):
    with pytest.raises(ValidationError, match=message):
        RetrainingConfig.model_validate(block)


def test_a_command_line_s_words_are_lists():
    config = RetrainingConfig.model_validate(
        {
            "families": "vae gmm",
            "gate": {"refusing_flags": "diverges,mode_collapse", "refusing_verdicts": "no effect,hurts"},
        }
    )
    assert config.families == ("vae", "gmm")
    assert config.gate.refusing_flags == ("diverges", "mode_collapse")
    assert config.gate.refusing_verdicts == ("no effect", "hurts")


def test_blocks_cannot_be_changed_and_survive_json():
    config = RetrainingConfig()
    with pytest.raises(ValidationError):
        config.dry_run = True
    assert RetrainingConfig.model_validate_json(config.model_dump_json()) == config
    assert isinstance(config, BaseModel) and set(config.gate.noise) <= set(METRICS)

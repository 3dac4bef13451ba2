"""`kedro champion` as it is typed, on a real store."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from simulacra.cli import cli
from simulacra.data.fabricate import fabricate_images
from simulacra.datasets import ModelDataset
from simulacra.models.naive_bayes import NaiveBayes, NaiveBayesConfig
from simulacra.retraining.registry import Registry
from simulacra.tracking.config import TrackingConfig
from simulacra.training.config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    bootstrap_project(ROOT)
    return tmp_path


def champion(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["champion", *arguments])


def register(store: Path, seed: int, fd: float) -> Any:
    model = NaiveBayes(NaiveBayesConfig())
    model.fit(fabricate_images(n=60, size=8, channels=1, n_classes=2, seed=seed), training=TrainingConfig())
    ModelDataset(str(store / "model")).save(model)
    metrics = {"fd_classifier": {"value": fd, "std": 0.2}}
    record = {"passport": {"seeds": [0]}, "passport_id": "p1", "metrics": metrics}
    Registry(TrackingConfig.parse({}), store, "mnist").register(store / "model", record=record)
    return model


def test_a_champion_is_shown_chosen_exported_and_taken_back(store: Path) -> None:
    none = champion("show")
    assert none.exit_code == 1 and none.output.startswith("Error: simulacra.mnist has no champion yet")
    first, _ = register(store, 0, 3.14), register(store, 1, 2.5)
    assert "there was none before" in champion("promote", "1").output
    told = champion("promote", "2")
    assert told.output == "champion of simulacra.mnist is version 2, naive_bayes; it was version 1, naive_bayes\n"
    shown = champion("show").output
    assert "champion: version 2, naive_bayes" in shown and "previous" in shown and "3.14" in shown
    back = champion("rollback")
    assert back.exit_code == 0 and "is version 1, naive_bayes, again; version 2, naive_bayes, stepped" in back.output
    assert "version 1 of simulacra.mnist" in champion("export", str(store / "out")).output
    assert ModelDataset(str(store / "out")).load().fingerprint() == first.fingerprint()


def test_mistakes_are_told_in_one_line(store: Path) -> None:
    for arguments, told in (
        (("promote", "7"), "simulacra.mnist has no version 7; there are: none yet"),
        (("rollback",), "has no champion yet"),
        (("export", "somewhere"), "has no champion yet"),
        (("--dataset", "mnits", "show"), "unknown dataset 'mnits'; did you mean 'mnist'?"),
    ):
        done = champion(*arguments)
        assert done.exit_code == 1 and done.output.startswith("Error: ") and told in done.output, done.output
        assert len(done.output.splitlines()) == 1

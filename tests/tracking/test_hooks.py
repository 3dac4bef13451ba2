"""What Kedro's runners let the hooks see, and what MLflow has of it in the end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, SharedMemoryDataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from pluggy import PluginManager

from simulacra.incremental import Unchanged
from simulacra.tracking import TrackingHooks
from simulacra.tracking.journal import PLACE
from simulacra.training.history import LISTENER

RECORD = {"seconds_in_all": 2.0, "device": "cpu"}


def measure(seed: int) -> dict[str, Any]:
    return {"passport_id": "p1", "metrics": {"fid": {"value": 3.0 + seed, "std": None}}}


def train(seed: int) -> dict[str, Any]:
    return RECORD


def slowly(seed: int) -> dict[str, Any]:
    time.sleep(1)
    return RECORD


def fail(seed: int) -> dict[str, Any]:
    raise ValueError("diverged at step 7")


def unsavable(seed: int) -> Any:
    return {"passport_id": object(), "metrics": {}}


def skip(seed: int) -> Unchanged:
    return Unchanged("0" * 64)


class Unchanging(JSONDataset):
    """Does as this project's datasets do: what is unchanged is not written."""

    def save(self, data: Any) -> None:
        if not isinstance(data, Unchanged):
            super().save(data)


class Project:
    """A folder with two families on one dataset, run by Kedro's own runners."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder, self.data, self.database = folder, folder / "data", database
        self.hooks = TrackingHooks()
        self.raw: dict[str, Any] = {"tracking_uri": f"sqlite:///{database}", "experiment": folder.name}

    def nodes(self, family: str, fit: Callable[..., Any], evaluate: Callable[..., Any]) -> list[Node]:
        names = [f"mnist.{family}.training_record", f"mnist.{family}.metrics"]
        space = f"mnist.{family}"
        return [
            Node(fit, ["params:seed"], names[0], name="fit", namespace=space),
            Node(evaluate, ["params:seed"], names[1], name="evaluate", namespace=space),
        ]

    def catalog(self, kind: type[DataCatalog] = DataCatalog, **more: Any) -> DataCatalog:
        parameters = {"seed": 1, "mnist": {"gmm": {"model": {"n": 3}}, "vae": {"model": {"n": 4}}}}
        catalog = kind(more)
        for family in ("gmm", "vae"):
            for name in ("training_record", "metrics"):
                path = self.data / "08_reporting/mnist" / family / f"{name}.json"
                catalog[f"mnist.{family}.{name}"] = Unchanging(filepath=str(path))
        catalog["parameters"], catalog["params:seed"] = parameters, 1
        return catalog

    def manager(self) -> PluginManager:
        manager: PluginManager = _create_hook_manager()
        manager.register(self.hooks)
        return manager

    def run(self, *nodes: Node, runner: Any = None, catalog: DataCatalog | None = None) -> BaseException | None:
        """Run as KedroSession does, and return the error that it ended with."""
        manager = self.manager()
        loader = {"mlflow": self.raw, "globals": {"data_root": "data"}}
        context = SimpleNamespace(config_loader=loader, env="test", project_path=self.folder)
        manager.hook.after_context_created(context=context)
        kind = SharedMemoryDataCatalog if isinstance(runner, ParallelRunner) else DataCatalog
        pipeline, catalog = Pipeline(nodes), catalog or self.catalog(kind)
        facts = {"run_id": "r1", "pipeline_names": ["train"], "namespaces": ["mnist"]}
        told = {"run_params": facts, "pipeline": pipeline, "catalog": catalog}
        manager.hook.before_pipeline_run(**told)
        try:
            (runner or SequentialRunner()).run(pipeline, catalog, manager, "r1")
        except Exception as error:
            manager.hook.on_pipeline_error(error=error, **told)
            return error
        manager.hook.after_pipeline_run(run_result={}, **told)
        return None

    def runs(self) -> dict[str, Run]:
        client = MlflowClient(f"sqlite:///{self.database}")
        experiment = client.get_experiment_by_name(self.folder.name)
        order = ["attributes.start_time ASC"]
        found = client.search_runs([experiment.experiment_id], order_by=order) if experiment else []
        return {run.info.run_name: run for run in found}

    def artifacts(self, run: Run) -> set[str]:
        root = Path(run.info.artifact_uri.removeprefix("file:").replace("///", "/"))
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    @property
    def journals(self) -> list[Path]:
        return list((self.data / ".simulacra/tracking").glob("*/records.jsonl"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path, database)
    # Worker processes register the hooks of the project's settings.
    settings = SimpleNamespace(HOOKS=(project.hooks,), DISABLE_HOOKS_FOR_PLUGINS=("kedro-viz", "kedro-telemetry"))
    monkeypatch.setattr("kedro.runner.task.settings", settings)
    return project


def status(runs: dict[str, Run]) -> dict[str, str]:
    return {name: run.info.status for name, run in runs.items()}


FINISHED = {"train": "FINISHED", "mnist.gmm": "FINISHED", "mnist.vae": "FINISHED"}


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner, ParallelRunner])
def test_every_runner_tracks_the_same(project: Project, runner: type) -> None:
    error = project.run(*project.nodes("gmm", train, measure), *project.nodes("vae", train, measure), runner=runner())
    runs = project.runs()
    assert error is None and status(runs) == FINISHED and not project.journals and PLACE not in os.environ
    for family, number in (("gmm", "3"), ("vae", "4")):
        run = runs[f"mnist.{family}"]
        assert set(run.data.metrics) == {"fid", "seconds_in_all", "seconds/fit", "seconds/evaluate"}
        assert run.data.metrics["fid"] == 4.0 and run.data.params["model.n"] == number
        assert run.data.tags["passport_id"] == "p1" and run.data.tags["family"] == family
        place = f"08_reporting/mnist/{family}"
        assert project.artifacts(run) == {f"{place}/metrics.json", f"{place}/training_record.json"}
    assert project.artifacts(runs["train"]) == {"resolved_parameters.yml"}


def test_curves_are_in_mlflow_while_they_are_drawn_and_there_once(project: Project) -> None:
    client = MlflowClient(f"sqlite:///{project.database}")

    def points() -> list[tuple[int, float]]:
        run = project.runs()["mnist.vae"]
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "train/loss")]

    def learn(seed: int) -> pd.DataFrame:
        hear = LISTENER.get()
        assert hear
        hear(10, "train", {"loss": 2.0})
        while "mnist.vae" not in project.runs() or not points():
            time.sleep(0.1)
        return pd.DataFrame({"step": [5, 10], "split": "train", "name": "loss", "value": [3.0, 2.0]})

    path = str(project.data / "06_models/mnist/vae/history.csv")
    history = CSVDataset(filepath=path, save_args={"index": False})
    fit = Node(learn, ["params:seed"], "mnist.vae.history", name="fit", namespace="mnist.vae")
    assert project.run(fit, catalog=project.catalog(**{"mnist.vae.history": history})) is None
    # What was drawn before this run, by a training that it took up again, is told at the end.
    assert sorted(points()) == [(5, 3.0), (10, 2.0)]


def test_only_a_node_that_draws_curves_is_listened_to(project: Project) -> None:
    heard = []
    node = Node(
        lambda seed: heard.append(LISTENER.get()) or RECORD,
        ["params:seed"],
        "mnist.gmm.training_record",
        name="fit",
        namespace="mnist.gmm",
    )
    LISTENER.set(lambda step, split, values: None)
    assert project.run(node) is None
    assert heard == [None]


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner, ParallelRunner])
def test_a_node_that_fails_fails_its_child_and_no_other(project: Project, runner: type) -> None:
    error = project.run(*project.nodes("gmm", train, measure), *project.nodes("vae", fail, slowly), runner=runner())
    runs = project.runs()
    assert isinstance(error, ValueError) and runs["train"].info.status == "FAILED"
    assert runs["mnist.vae"].info.status == "FAILED" and runs["mnist.gmm"].info.status in ("FINISHED", "KILLED")
    tags = runs["mnist.vae"].data.tags
    assert tags["error"] == "ValueError: diverged at step 7" and tags["failed_node"] == "mnist.vae.fit"
    assert "error" not in runs["mnist.gmm"].data.tags


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner, ParallelRunner])
def test_an_output_that_cannot_be_saved_fails_the_child(project: Project, runner: type) -> None:
    error = project.run(
        *project.nodes("gmm", slowly, measure), *project.nodes("vae", train, unsavable), runner=runner()
    )
    runs = project.runs()
    assert error is not None and runs["mnist.vae"].info.status == "FAILED"
    assert runs["mnist.vae"].data.tags["failed_node"] == "mnist.vae.evaluate"
    assert "object is not JSON serializable" in " ".join(runs["mnist.vae"].data.tags["error"].split())
    assert "error" not in runs["mnist.gmm"].data.tags and runs["mnist.gmm"].info.status in ("FINISHED", "KILLED")


def test_an_input_that_cannot_be_loaded_fails_the_child(project: Project) -> None:
    broken = project.data / "broken.json"
    broken.parent.mkdir()
    broken.write_text("{")
    catalog = project.catalog(raw=JSONDataset(filepath=str(broken)))
    reader = Node(train, ["raw"], "mnist.vae.metrics", name="read", namespace="mnist.vae")
    error = project.run(*project.nodes("gmm", train, measure), reader, catalog=catalog)
    runs = project.runs()
    assert error is not None and runs["mnist.vae"].info.status == "FAILED"
    assert runs["mnist.vae"].data.tags["failed_node"] == "mnist.vae.read"
    assert "broken.json" in runs["mnist.vae"].data.tags["error"]


def test_what_did_not_run_again_has_its_numbers_from_disk_and_no_file(project: Project) -> None:
    project.run(*project.nodes("gmm", train, measure), *project.nodes("vae", train, measure))
    first = project.runs()
    project.hooks.reused = {"mnist.vae": ["mnist.vae.training_record"], "mnist.other": ["mnist.other.metrics"]}
    (_, evaluate) = project.nodes("vae", train, measure)
    project.run(*project.nodes("gmm", skip, skip), evaluate)
    second = project.runs()
    for name in ("mnist.gmm", "mnist.vae"):
        assert second[name].info.run_id != first[name].info.run_id
        assert {"fid", "seconds_in_all"} <= set(second[name].data.metrics)
    assert set(second["mnist.gmm"].data.tags["reused"].split()) == {"mnist.gmm.fit", "mnist.gmm.evaluate"}
    assert project.artifacts(second["mnist.gmm"]) == set() and "mnist.other" not in second
    assert project.artifacts(second["mnist.vae"]) == {"08_reporting/mnist/vae/metrics.json"}
    assert project.hooks.reused == {} and status(second) == FINISHED


def test_a_reused_dataset_that_is_gone_costs_its_numbers_only(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    assert project.run(*project.nodes("gmm", train, skip)) is None
    (run,) = (run for name, run in project.runs().items() if name == "mnist.gmm")
    assert run.info.status == "FINISHED" and "seconds_in_all" in run.data.metrics
    assert "MLflow will lack mnist.gmm.metrics" in caplog.text


def test_a_folder_that_cannot_be_written_costs_a_warning(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    project.data.mkdir()
    (project.data / ".simulacra").write_text("in the way")
    assert project.run(*project.nodes("gmm", train, measure)) is None
    assert "this run is not tracked" in caplog.text and not project.runs()
    assert (project.data / "08_reporting/mnist/gmm/metrics.json").exists()


def test_a_disk_that_fills_up_costs_the_rest_of_the_records(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_journals(seed: int) -> dict[str, Any]:
        for path in project.journals:
            path.rename(path.with_suffix(".gone"))
            path.mkdir()
        return RECORD

    monkeypatch.setattr("simulacra.tracking.store.SQLITE_PAUSES", ())
    assert project.run(*project.nodes("gmm", remove_journals, measure)) is None
    assert "MLflow will lack the rest of this run" in caplog.text


def test_an_interruption_kills_what_is_open(project: Project) -> None:
    def interrupt(seed: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.run(*project.nodes("gmm", train, interrupt), *project.nodes("vae", train, measure))
    project.hooks.abandon()
    assert set(status(project.runs()).values()) == {"KILLED"} and not project.journals
    project.hooks.abandon()


LOAD = """
import importlib.util, os, signal, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("tests_of_hooks", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
project = tests.Project(Path(sys.argv[2]), Path(sys.argv[3]))
"""

WORKER = """
nodes = tests.Pipeline(project.nodes("gmm", tests.train, tests.measure))
tests.SequentialRunner().run(nodes, project.catalog(), project.manager(), "r1")
"""


def test_a_worker_process_that_was_not_forked_finds_the_journal(project: Project) -> None:
    def elsewhere(seed: int) -> dict[str, Any]:
        subprocess.run([sys.executable, "-c", LOAD + WORKER, __file__, project.folder, project.database], check=True)
        return RECORD

    (alone,) = project.nodes("vae", elsewhere, measure)[:1]
    (first, _) = project.nodes("gmm", skip, skip)
    assert project.run(alone, first, catalog=project.catalog()) is None
    run = project.runs()["mnist.gmm"]
    assert run.data.metrics["fid"] == 4.0 and "seconds/evaluate" in run.data.metrics
    assert "08_reporting/mnist/gmm/metrics.json" in project.artifacts(run)


def test_the_next_run_of_the_same_process_ends_one_that_was_interrupted(project: Project) -> None:
    def interrupt(seed: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.run(*project.nodes("vae", interrupt, measure))
    project.run(*project.nodes("gmm", train, measure))
    assert status(project.runs()) == {"train": "FINISHED", "mnist.gmm": "FINISHED", "mnist.vae": "KILLED"}
    assert not project.journals


KILLED = """
def die(seed):
    os.kill(os.getpid(), signal.SIGKILL)

project.run(*project.nodes("gmm", tests.train, tests.measure), *project.nodes("vae", tests.train, die))
"""


def test_a_run_killed_outright_is_told_of_by_the_next(project: Project) -> None:
    command = [sys.executable, "-c", LOAD + KILLED, __file__, project.folder, project.database]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (journal,) = project.journals
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    project.run(*project.nodes("gmm", skip, skip))
    client = MlflowClient(f"sqlite:///{project.database}")
    experiment = client.get_experiment_by_name(project.folder.name)
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    killed = {run.info.run_name: run for run in runs[:3]}
    assert set(killed) == {"train", "mnist.gmm", "mnist.vae"} and len(runs) == 5
    assert killed["train"].info.status == killed["mnist.vae"].info.status == "KILLED"
    assert killed["train"].info.end_time == killed["mnist.vae"].info.end_time == records[-1]["time"]
    assert killed["mnist.gmm"].info.status in ("FINISHED", "KILLED") and not project.journals


def test_where_there_is_nothing_to_run_earlier_journals_are_sent_all_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("simulacra.tracking.store.SQLITE_PAUSES", ())
    place = project.folder / "place"
    place.write_text("no folder yet")
    project.database = place / "mlflow.db"
    project.raw["tracking_uri"] = f"sqlite:///{project.database}"
    project.run(*project.nodes("gmm", train, measure))
    assert "MLflow tracking is off for the rest of this run" in caplog.text and len(project.journals) == 1
    place.unlink()
    project.hooks.catch_up()
    assert not project.journals and status(project.runs()) == {"train": "FINISHED", "mnist.gmm": "FINISHED"}

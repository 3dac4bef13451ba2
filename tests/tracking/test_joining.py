"""Several processes, one parent run: real `kedro run`, a real store."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from simulacra.tracking.config import TrackingConfig
from simulacra.tracking.joining import PARENT_RUN, forget_joined, joined_run, note_joined, parent_key
from simulacra.tracking.store import Store

KEY = "mnist 2026-11-02 03:00 UTC 1f2e3d"

JOIN = """
import sys
from pathlib import Path
from simulacra.tracking.config import TrackingConfig
from simulacra.tracking.store import Store, import_mlflow

import_mlflow(5)
folder = Path(sys.argv[1])
store = Store(TrackingConfig(tracking_uri="sqlite:///mlflow.db"), folder)
print("ready", flush=True)
sys.stdin.readline()
record = {"name": "tick", "join": "tick", "time": 1000, "tags": {}, "op": "create", "run": "", "nodes": 1}
print(store.join(record, "simulacra", folder / "joining.lock"))
"""


def runs(project: Path) -> tuple[list[Run], list[Run]]:
    """Return the parents and the children, oldest first."""
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    experiment = client.get_experiment_by_name("simulacra")
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


@pytest.mark.slow
def test_the_processes_of_one_tick_share_one_parent_run(tmp_path: Path, copied: Callable, kedro: Callable) -> None:
    project = copied(tmp_path)
    (project / "conf/test/experiments.yml").write_text("mnist:\n  families: [naive_bayes]\n")
    tick = {PARENT_RUN: KEY}
    kedro(project, "run", "--env", "test", "--pipelines", "ingest,preprocess", "--namespaces", "mnist", **tick)
    (parent,), children = runs(project)
    assert (parent.info.run_name, parent.info.status, children) == (KEY, "FINISHED", [])
    assert joined_run(project / "data/test/.simulacra/tracking", KEY) == parent.info.run_id

    train = ("run", "--env", "test", "--pipelines", "train", "--namespaces", "mnist.naive_bayes")
    model = project / "src/simulacra/models/naive_bayes.py"
    whole = model.read_text()
    model.write_text(f"{whole}\nNaiveBayes.fit = None\n")
    kedro(project, *train, code=1, **tick)
    (failed,), (child,) = runs(project)
    assert (failed.info.run_id, failed.info.status, child.info.status) == (parent.info.run_id, "FAILED", "FAILED")

    model.write_text(whole)
    kedro(project, *train, **tick)
    (last,), (_, child) = runs(project)
    assert (last.info.run_id, last.info.status, child.info.status) == (parent.info.run_id, "FINISHED", "FINISHED")
    assert last.info.end_time >= child.info.end_time > failed.info.end_time
    assert {child.data.tags["mlflow.parentRunId"], child.info.run_name} == {parent.info.run_id, "mnist.naive_bayes"}
    assert {"seconds/mnist.ingest", "seconds/mnist.split"} <= last.data.metrics.keys()
    assert any(key.startswith("seconds/") for key in child.data.metrics) and child.data.params["dataset"] == "mnist"


def test_two_processes_that_begin_at_once_make_one_parent(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    Store(TrackingConfig(tracking_uri="sqlite:///mlflow.db"), tmp_path)
    racers = [subprocess.Popen([sys.executable, "-c", JOIN, str(tmp_path)], **pipes) for _ in range(2)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(said) == 1 and len(said.pop().strip()) == 32


def test_the_last_process_has_the_last_word_in_whatever_order_records_come(tmp_path: Path) -> None:
    store = Store(TrackingConfig(tracking_uri="sqlite:///mlflow.db"), tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    begun: set[str] = set()

    def begin(time: int) -> str:
        record = {"op": "create", "run": "", "nodes": 1, "name": "tick", "join": "tick", "time": time, "tags": {}}
        begun.add(store.join(record, "simulacra", tmp_path / "joining.lock"))
        (run,) = begun
        return client.get_run(run).info.status

    def end(time: int, status: str) -> str:
        (run,) = begun
        store.send({"op": "end", "run": "", "time": time, "status": status, "joined": True}, run, tmp_path)
        return client.get_run(run).info.status

    assert begin(1000) == "RUNNING"
    assert end(5000, "FINISHED") == "FINISHED"
    assert begin(2000) == "FINISHED" and end(3000, "KILLED") == "FINISHED"  # what was killed meanwhile is told late
    assert begin(6000) == "RUNNING" and end(4000, "KILLED") == "RUNNING"
    assert end(7000, "FAILED") == "FAILED"
    assert begin(8000) == "RUNNING" and end(9000, "FINISHED") == "FINISHED"
    assert client.get_run(begun.copy().pop()).info.end_time == 9000
    client.delete_run(begun.pop())
    assert begin(10_000) == "RUNNING"  # a parent that somebody deleted is not written to


@pytest.mark.parametrize("key", ["it's", "a\nb", 'x" or 1', " blank", "k" * 201])
def test_what_is_no_key_is_told_and_left(
    key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PARENT_RUN, key)
    assert parent_key() is None and "so this run has a parent of its own" in caplog.text


def test_a_key_is_found_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT_RUN, KEY)
    assert parent_key() == KEY
    note_joined(tmp_path, KEY, "r1")
    assert joined_run(tmp_path, KEY) == "r1" and joined_run(tmp_path, "another") is None
    forget_joined(tmp_path, KEY)
    assert joined_run(tmp_path, KEY) is None
    monkeypatch.delenv(PARENT_RUN)
    assert parent_key() is None and PARENT_RUN not in os.environ

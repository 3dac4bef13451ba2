"""Journals become runs of a real MLflow store: a sqlite file."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from simulacra.tracking import TrackingConfig
from simulacra.tracking.journal import Journal
from simulacra.tracking.ledger import PARENT
from simulacra.tracking.sender import Sender
from simulacra.tracking.store import Store

GMM = "mnist.gmm"


class Place:
    """A project whose runs go to an experiment of its own in a sqlite file that all tests share."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.root, self.project = folder / "tracking", project
        self.settings = TrackingConfig(experiment=folder.name)

    def journal(self, **header: str) -> Journal:
        return Journal.begin(
            self.root, {"uri": self.settings.public_uri, "experiment": self.settings.experiment} | header
        )

    def send(self, journal: Journal | None = None) -> None:
        sender = Sender(self.root, journal, self.settings, self.project)
        sender.start()
        sender.finish()

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.project}/mlflow.db")

    def runs(self) -> dict[str, Run]:
        experiment = self.client.get_experiment_by_name(self.settings.experiment)
        found = self.client.search_runs([experiment.experiment_id]) if experiment else []
        names = [run.info.run_name for run in found]
        assert len(names) == len(set(names)), f"runs more than once: {names}"
        return dict(zip(names, found, strict=True))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture
def place(tmp_path: Path, project: Path) -> Iterator[Place]:
    return Place(tmp_path, project)


def creation(name: str) -> dict[str, Any]:
    return {"op": "create", "run": PARENT, "time": 1, "name": name, "tags": {}, "nodes": 0}


def story(journal: Journal, folder: Path, *, ended: bool = True) -> None:
    """Write what a run with one family does, at times of long ago."""

    def record(op: str, time: int, run: str = GMM, **what: Any) -> None:
        journal.append({"op": op, "run": run, "time": time, **what})

    file = folder / "metrics.json"
    file.write_text(journal.folder.name)
    record("create", 1000, PARENT, name="mnist", tags={"kedro.env": "test"}, nodes=1)
    record("dict", 1001, PARENT, name="resolved_parameters.yml", data={"seed": 1})
    record("create", 1002, name=GMM, tags={"family": "gmm"}, nodes=1)
    record("batch", 1003, params=[["model.n", "3"], ["seed", "0"]])
    split = {"name": "mnist", "digest": "f" * 32, "source": "{}", "context": "train"}
    record("inputs", 1004, PARENT, dataset="mnist", inputs=[split])
    record("begin", 1005, node="mnist.gmm.fit")
    record("batch", 1006, metrics=[["train/loss", 0.5, 1], ["train/loss", 0.25, 2]])
    record("file", 1007, file=journal.keep(file), place="08_reporting/mnist/gmm")
    record("batch", 1008, tags=[["passport_id", "p1"]])
    if ended:
        record("done", 1009, node="mnist.gmm.fit")
        record("end", 1010, PARENT, parent="FINISHED", children="FINISHED")


def facts(place: Place, run: Run) -> dict[str, Any]:
    """All that MLflow knows of a run, but for what differs from one store to another."""
    curve = place.client.get_metric_history(run.info.run_id, "train/loss")
    return {
        "info": (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time),
        "params": run.data.params,
        "curve": [(point.step, point.value, point.timestamp) for point in curve],
        "inputs": [entry.dataset.digest for entry in run.inputs.dataset_inputs],
        "artifacts": [entry.path for entry in place.client.list_artifacts(run.info.run_id, "08_reporting/mnist/gmm")],
        "passport": run.data.tags.get("passport_id"),
    }


WHOLE = {
    "info": (GMM, "FINISHED", 1002, 1009),
    "params": {"model.n": "3", "seed": "0"},
    "curve": [(1, 0.5, 1006), (2, 0.25, 1006)],
    "inputs": ["f" * 32],
    "artifacts": ["08_reporting/mnist/gmm/metrics.json"],
    "passport": "p1",
}


def test_a_journal_becomes_runs_and_is_gone(place: Place, tmp_path: Path) -> None:
    journal = place.journal()
    story(journal, tmp_path)
    place.send(journal)
    runs = place.runs()
    assert facts(place, runs[GMM]) == WHOLE
    assert runs[GMM].data.tags["mlflow.parentRunId"] == runs["mnist"].info.run_id
    assert runs["mnist"].info.status == "FINISHED" and runs["mnist"].info.end_time == 1010
    resolved = place.client.download_artifacts(runs["mnist"].info.run_id, "resolved_parameters.yml", str(tmp_path))
    assert Path(resolved).read_text() == "seed: 1\n"
    assert str(place.project) in runs[GMM].info.artifact_uri
    assert not list(place.root.iterdir())


def test_what_was_sent_already_is_not_there_twice(place: Place, tmp_path: Path) -> None:
    journal = place.journal()
    story(journal, tmp_path)
    kept = tmp_path / "kept"
    shutil.copytree(journal.folder, kept)
    place.send(journal)
    once = {name: (run.info.run_id, facts(place, run)) for name, run in place.runs().items()}
    shutil.copytree(kept, journal.folder)
    place.send()
    assert {name: (run.info.run_id, facts(place, run)) for name, run in place.runs().items()} == once
    assert not list(place.root.iterdir())


def test_sending_goes_on_after_the_last_record_noted(place: Place, tmp_path: Path) -> None:
    journal = place.journal()
    story(journal, tmp_path)
    records, _ = journal.read(0)
    store = Store(place.settings, place.project)
    ids = {}
    for run in (PARENT, GMM):
        (record,) = (one for one in records if one["op"] == "create" and one["run"] == run)
        key = f"{journal.folder.name}/{run}"
        ids[run] = store.create(record, key, place.settings.experiment, ids.get(PARENT), again=False)
    # The child's creation came through, and the process died before it could note it.
    journal.note(3, {PARENT: ids[PARENT]})
    journal.release()
    place.send()
    runs = place.runs()
    assert (runs["mnist"].info.run_id, runs[GMM].info.run_id) == (ids[PARENT], ids[GMM])
    assert facts(place, runs[GMM]) == WHOLE


def test_what_is_noted_as_sent_is_not_sent_again(place: Place, tmp_path: Path) -> None:
    journal = place.journal()
    story(journal, tmp_path)
    store, ids = Store(place.settings, place.project), {}
    for run in (PARENT, GMM):
        ids[run] = store.create(creation(run), run, place.settings.experiment, None, again=False)
    journal.note(5, ids)
    journal.release()
    place.send()
    run = place.client.get_run(ids[GMM])
    assert run.data.params == {} and run.data.tags["passport_id"] == "p1" and run.info.status == "FINISHED"


def test_a_killed_runs_open_runs_end_with_its_last_record(place: Place, tmp_path: Path) -> None:
    journal = place.journal()
    story(journal, tmp_path, ended=False)
    with (journal.folder / "records.jsonl").open("a") as file:
        file.write('{"op": "batch", "run": "mnist.gmm", "ti')
    journal.release()
    place.send()
    ends = {(run.info.status, run.info.end_time) for run in place.runs().values()}
    assert ends == {("KILLED", 1008)}


def test_earlier_journals_come_first_and_the_oldest_of_all(place: Place, tmp_path: Path) -> None:
    journals = [place.journal() for _ in range(3)]
    for number, journal in enumerate(journals):
        journal.append(creation(f"run {number}"))
    # Names are by the second, so these three say nothing of their age.
    for journal, name in zip(journals, ("20260101T000000", "20260202T000000", "20260303T000000"), strict=True):
        journal.release()
        journal.folder.rename(place.root / name)
    own = place.journal()
    own.append(creation("own"))
    place.send(own)
    with closing(sqlite3.connect(place.project / "mlflow.db")) as database:
        ids = [row[0] for row in database.execute("select run_uuid from runs order by rowid")]
    by_creation = sorted(place.runs().values(), key=lambda run: ids.index(run.info.run_id))
    assert [run.info.run_name for run in by_creation] == ["run 0", "run 1", "run 2", "own"]


def test_a_journal_meant_for_another_store_waits_and_is_spoken_of_once(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        other = place.journal(uri="http://another:5000")
        story(other, tmp_path)
        other.release()
    own = place.journal()
    story(own, tmp_path)
    place.send(own)
    assert len(list(place.root.iterdir())) == 2 and set(place.runs()) == {"mnist", GMM}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "2 earlier run(s)" in warning and "http://another:5000" in warning


def test_the_journal_of_a_run_that_still_goes_on_is_left_to_it(place: Place, tmp_path: Path) -> None:
    other = place.journal()
    story(other, tmp_path, ended=False)
    place.send()
    assert not place.runs() and other.folder.exists()
    other.release()


def test_what_mlflow_refuses_is_named_and_left_out_and_the_rest_sent(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = place.journal()
    journal.append(creation("mnist") | {"tags": {"long": 9000 * "x"}})
    names = [f"p{number}" for number in range(7)]
    params = [[name, "1"] for name in [*names, "no\x00name?"]] + [["long", 90_000 * "y"]]
    journal.append({"op": "batch", "run": PARENT, "time": 2, "params": params})
    journal.append({"op": "batch", "run": PARENT, "time": 3, "params": [["p0", "changed"]]})
    journal.append({"op": "file", "run": PARENT, "time": 4, "file": "files/gone/gone.json", "place": "x"})
    journal.append({"op": "end", "run": PARENT, "time": 5, "parent": "FINISHED", "children": "FINISHED"})
    place.send(journal)
    (run,) = place.runs().values()
    assert {*names, "long"} == set(run.data.params) and run.data.params["p0"] == "1"
    assert run.info.status == "FINISHED"
    warnings = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
    assert len(warnings) == 3 and "no\x00name?" in warnings[0] and "p0" in warnings[1] and "gone.json" in warnings[2]
    assert not list(place.root.iterdir())


def test_a_deleted_experiment_keeps_the_records(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulacra.tracking.store.SQLITE_PAUSES", ())
    Store(place.settings, place.project)
    client = place.client
    client.delete_experiment(client.create_experiment(place.settings.experiment))
    journal = place.journal()
    story(journal, tmp_path)
    place.send(journal)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "was deleted; restore it" in warning and str(place.root) in warning and "\n" not in warning
    assert journal.folder.exists()

    caplog.clear()
    place.settings = place.settings.model_copy(update={"experiment": f"{tmp_path.name} again"})
    own = place.journal()
    story(own, tmp_path)
    place.send(own)
    assert facts(place, place.runs()[GMM]) == WHOLE and not own.folder.exists() and journal.folder.exists()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "1 earlier run(s) cannot be tracked" in warning and "was deleted; restore it" in warning

    client.restore_experiment(client.get_experiment_by_name(tmp_path.name).experiment_id)
    place.send()
    place.settings = place.settings.model_copy(update={"experiment": tmp_path.name})
    assert facts(place, place.runs()[GMM]) == WHOLE and not journal.folder.exists()


def test_a_run_that_mlflow_will_not_create_keeps_its_records_and_holds_up_no_other(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = place.journal()
    other.append(creation("mnist") | {"tags": {"mlflow.runName": "another"}})
    other.release()
    own = place.journal()
    story(own, tmp_path)
    place.send(own)
    assert facts(place, place.runs()[GMM]) == WHOLE and not own.folder.exists() and other.folder.exists()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert other.folder.name in warning and "mlflow.runName" in warning and "\n" not in warning


SEND = """
import logging, sys, time
from pathlib import Path
from simulacra.tracking import TrackingConfig
from simulacra.tracking.journal import Journal
from simulacra.tracking.sender import Sender

logging.basicConfig(level=logging.WARNING, format="%(message)s")
project, name = Path(sys.argv[1]), sys.argv[2]
settings = TrackingConfig(wait=60)
root = project / name
journal = Journal.begin(root, {"uri": settings.public_uri, "experiment": settings.experiment})
sender = Sender(root, journal, settings, project)
sender.start()
journal.append({"op": "create", "run": "", "time": 1, "name": name, "tags": {}, "nodes": 0})
for step in range(40):
    journal.append({"op": "batch", "run": "", "time": 2, "metrics": [[f"m{n}", step, step] for n in range(20)]})
journal.append({"op": "end", "run": "", "time": 3, "parent": "FINISHED", "children": "FINISHED"})
sender.finish()
print(list(root.iterdir()))
"""


def test_processes_that_make_and_fill_one_sqlite_file_at_once_never_find_it_locked(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SEND, tmp_path]
    both = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for name in "ab"
    ]
    assert [process.communicate(timeout=120)[0] for process in both] == ["[]\n", "[]\n"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("simulacra").experiment_id])
    assert {(run.info.run_name, run.info.status) for run in runs} == {("a", "FINISHED"), ("b", "FINISHED")}
    for run in runs:
        assert [point.step for point in client.get_metric_history(run.info.run_id, "m7")] == list(range(40))


def test_half_read_progress_starts_again_and_doubles_nothing(place: Place, tmp_path: Path) -> None:
    journal = place.journal()
    story(journal, tmp_path)
    kept = tmp_path / "kept"
    shutil.copytree(journal.folder, kept)
    place.send(journal)
    shutil.copytree(kept, journal.folder)
    (journal.folder / "progress.json").write_text(json.dumps({"sent": "?"}))
    place.send()
    assert facts(place, place.runs()[GMM]) == WHOLE

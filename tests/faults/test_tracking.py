"""MLflow at its worst: it refuses, hangs, fails or dies in the middle; what it then lacks comes with the next run."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from simulacra.tracking import TrackingConfig
from simulacra.tracking.journal import Journal
from simulacra.tracking.sender import LONGEST_WAIT, Sender

ROOT = Path(__file__).resolve().parents[2]
Kedro = Callable[..., subprocess.CompletedProcess[str]]

# It takes a port that is free and says which: one found free beforehand may be taken by the time MLflow is imported.
SERVER = """
from werkzeug.serving import make_server
from mlflow.server import app
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


def held_port() -> socket.socket:
    """A port at which nobody listens, and which the system lends to no one while this socket is open."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Front:
    """A real MLflow server, and before it a door that can be shut.

    `mode` says what the door does with a request: "well" hands it on; "hang" never answers; "fail" answers 500; "deny"
    answers 400 in words of its own; "slow" takes 0.3 s; "dead" hangs up; "mute" hands it on and then hangs up, so that
    what was asked for is done and the asker does not know.
    After `left` more requests `mode` becomes `then`.
    """

    def __init__(self, folder: Path) -> None:
        settings = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/server.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        }
        log = folder / "server.log"
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER],
                env=os.environ | settings,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout
        port = self.process.stdout.readline()
        assert port, f"MLflow's server did not start:\n{log.read_text()}"
        self.behind = int(port)
        # The first answer takes long, since the server makes its database for it.
        MlflowClient(f"http://127.0.0.1:{self.behind}").search_experiments()
        self.held = held_port()
        self.port = self.held.getsockname()[1]
        self.freed = threading.Event()
        self.reset()
        self.open()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        handler = type("Handler", (Door,), {"front": self})
        self.door: ThreadingHTTPServer | None = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.door.daemon_threads = True
        threading.Thread(target=self.door.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Let nobody listen any more."""
        assert self.door
        self.door.shutdown()
        self.door.server_close()
        self.door = None

    def reset(self) -> None:
        self.freed.set()
        self.freed = threading.Event()
        self.mode, self.then, self.left, self.asked = "well", "well", 10**9, 0

    def next_mode(self) -> str:
        self.asked += 1
        if self.left <= 0:
            self.mode = self.then
        self.left -= 1
        return self.mode

    def stop(self) -> None:
        if self.door:
            self.close()
        self.held.close()
        self.process.kill()
        self.process.communicate()


class Door(BaseHTTPRequestHandler):
    """One connection to the server behind."""

    front: Front
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        mode, freed = self.front.next_mode(), self.front.freed
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if mode == "hang":
            freed.wait(60)
        if mode in ("hang", "dead"):
            self.close_connection = True
            return
        if mode == "fail":
            self.answer(500, b'{"error_code": "INTERNAL_ERROR", "message": "out of order"}', "application/json")
            return
        if mode == "deny":
            self.answer(400, b"The plain HTTP request was sent to HTTPS port", "text/plain")
            return
        if mode == "slow":
            freed.wait(0.3)
        behind = http.client.HTTPConnection("127.0.0.1", self.front.behind, timeout=30)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
        behind.request(self.command, self.path, body, headers)
        response = behind.getresponse()
        content = response.read()
        behind.close()
        if mode == "mute":
            self.close_connection = True
            return
        self.answer(response.status, content, response.headers.get("Content-Type", "text/plain"))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("server"))
    yield front
    front.stop()


@pytest.fixture
def front(server: Front) -> Iterator[Front]:
    """The server, well at the beginning and at the end."""
    yield server
    server.reset()
    if server.door is None:
        server.open()


def tracked(front: Front, experiment: str) -> list[Run]:
    """All runs of an experiment, oldest first, asked for behind the door."""
    client = MlflowClient(f"http://127.0.0.1:{front.behind}")
    found = client.get_experiment_by_name(experiment)
    return oldest_first(client.search_runs([found.experiment_id])) if found else []


def oldest_first(runs: list[Run]) -> list[Run]:
    """Sort by time; a parent and its child may begin in the same millisecond."""
    return sorted(runs, key=lambda run: (run.info.start_time, "mlflow.parentRunId" in run.data.tags))


def artifacts(front: Front, run: Run, folder: str | None = None) -> set[str]:
    client = MlflowClient(f"http://127.0.0.1:{front.behind}")
    found = set()
    for entry in client.list_artifacts(run.info.run_id, folder):
        found |= artifacts(front, run, entry.path) if entry.is_dir else {entry.path}
    return found


def story(root: Path, uri: str, experiment: str) -> Journal:
    """A journal of one parent and one child, as of long ago."""
    journal = Journal.begin(root, {"uri": uri, "experiment": experiment})
    file = root / "metrics.json"
    file.write_text("{}")
    split = {"name": "mnist", "digest": "f" * 32, "source": "{}", "context": "train"}
    for time_, record in enumerate(
        [
            {"op": "create", "run": "", "name": "mnist", "tags": {}, "nodes": 0},
            {"op": "create", "run": "mnist.gmm", "name": "mnist.gmm", "tags": {"family": "gmm"}, "nodes": 1},
            {"op": "batch", "run": "mnist.gmm", "params": [["n", "3"]]},
            {"op": "inputs", "run": "", "dataset": "mnist", "inputs": [split]},
            {"op": "batch", "run": "mnist.gmm", "metrics": [["loss", 0.5, 1], ["loss", 0.25, 2]]},
            {"op": "file", "run": "mnist.gmm", "file": journal.keep(file), "place": "08_reporting"},
            {"op": "done", "run": "mnist.gmm", "node": "fit"},
            {"op": "end", "run": "", "parent": "FINISHED", "children": "FINISHED"},
        ],
        start=1000,
    ):
        journal.append({"time": time_} | record)
    return journal


def assert_told(front: Front, experiment: str) -> None:
    """The story is there, whole and once."""
    parent, child = tracked(front, experiment)
    facts = [(run.info.run_name, run.info.status, run.info.start_time, run.info.end_time) for run in (parent, child)]
    assert facts == [("mnist", "FINISHED", 1000, 1007), ("mnist.gmm", "FINISHED", 1001, 1006)]
    assert child.data.params == {"n": "3"} and child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    curve = MlflowClient(f"http://127.0.0.1:{front.behind}").get_metric_history(child.info.run_id, "loss")
    assert [(point.step, point.value, point.timestamp) for point in curve] == [(1, 0.5, 1004), (2, 0.25, 1004)]
    assert [len(run.inputs.dataset_inputs) for run in (parent, child)] == [1, 1]
    assert artifacts(front, child) == {"08_reporting/metrics.json"}


def send(root: Path, journal: Journal | None, front: Front, **settings: Any) -> float:
    """Send from here, and return the seconds that a run would have waited at its end."""
    config = TrackingConfig(tracking_uri=front.uri, experiment=root.name, **settings)
    sender = Sender(root, journal, config, root)
    sender.start()
    began = time.monotonic()
    sender.finish()
    return time.monotonic() - began


Patient = Callable[[], None]


@pytest.fixture
def quick() -> Iterator[Patient]:
    """A second's patience; until what is returned is called: on a busy machine a server that is well takes longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        patch.setattr("simulacra.tracking.store.SERVER_PAUSES", (0.05,))
        yield patch.undo


@pytest.mark.parametrize("mode", ["closed", "hang", "fail", "deny", "dead"])
def test_a_server_at_its_worst_costs_little_and_loses_nothing(
    front: Front, quick: Patient, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = story(tmp_path, front.uri, tmp_path.name)
    front.mode = mode
    if mode == "closed":
        front.close()
    assert send(tmp_path, journal, front) < 10
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "MLflow tracking is off for the rest of this run" in warning and "\n" not in warning
    assert str(tmp_path) in warning and journal.folder.exists()
    front.reset()
    quick()
    if mode == "closed":
        front.open()
    send(tmp_path, None, front)
    assert_told(front, tmp_path.name)
    assert not Journal.earlier(tmp_path)


def test_a_server_that_crawls_is_waited_for_within_limits(
    front: Front, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    journal = story(tmp_path, front.uri, tmp_path.name)
    front.mode = "hang"
    assert send(tmp_path, journal, front, wait=1) < 5
    assert "it is too slow" in caplog.text and journal.folder.exists()


def test_a_server_that_is_slow_but_gets_on_is_waited_for_within_limits_too(
    front: Front, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LONGEST_WAIT < 30
    monkeypatch.setattr("simulacra.tracking.sender.LONGEST_WAIT", 1.5)
    journal = story(tmp_path, front.uri, tmp_path.name)
    front.mode = "slow"
    assert send(tmp_path, journal, front, wait=1) < 2.5
    assert "it is too slow" in caplog.text and journal.folder.exists()


def test_no_password_is_logged(quick: Patient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with held_port() as held:
        settings = TrackingConfig(tracking_uri=f"http://me:secret@127.0.0.1:{held.getsockname()[1]}")
        sender = Sender(tmp_path, story(tmp_path, settings.public_uri, "x"), settings, tmp_path)
        sender.start()
        sender.finish()
    assert "127.0.0.1" in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(("ending", "step"), [("dead", 3), ("deny", 1), ("mute", 1)])
def test_wherever_the_server_dies_the_next_run_goes_on_exactly_there(
    front: Front, quick: Patient, tmp_path: Path, ending: str, step: int
) -> None:
    """It was not heard, or answered 400 by something that is not MLflow, or heard but not answered."""
    survived = died = 0
    while not survived:
        root = tmp_path / f"{ending}-{died}"
        root.mkdir()
        journal = story(root, front.uri, root.name)
        front.left, front.then = died, ending
        send(root, journal, front)
        survived = int(not journal.folder.exists())
        front.reset()
        send(root, None, front)
        assert_told(front, root.name)
        died += step
    assert died > 12, "the story takes more requests than that"


def test_one_answer_lost_on_the_way_is_asked_for_again(front: Front, quick: Patient, tmp_path: Path) -> None:
    journal = story(tmp_path, front.uri, tmp_path.name)

    def recover() -> None:
        while front.mode != "mute":
            time.sleep(0.001)
        front.then = front.mode = "well"

    front.left, front.then = 3, "mute"
    watcher = threading.Thread(target=recover)
    watcher.start()
    send(tmp_path, journal, front)
    watcher.join()
    assert_told(front, tmp_path.name)
    assert not journal.folder.exists()


TEST = ("run", "--env", "test")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, kedro: Kedro) -> Path:
    """A project whose data are ready for training, without a tracking store."""
    place = tmp_path_factory.mktemp("prepared")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
    for part in ("conf", "src"):
        shutil.copytree(ROOT / part, place / part, ignore=ignored)
    for part in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / part, place / part)
    (place / "conf/local").mkdir()
    kedro(place, *TEST, "--pipelines", "ingest,preprocess")
    for rest in place.glob("data/test/mlflow.db*"):
        rest.unlink()
    shutil.rmtree(place / "mlruns")
    return place


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it for one test, with an experiment of its own."""
    place = tmp_path / "project"
    shutil.copytree(prepared, place)
    with (place / "conf/test/mlflow.yml").open("a") as file:
        file.write(f"\nexperiment: {tmp_path.name}\n")
    return place


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory, kedro: Kedro, server: Front) -> Any:
    """Seconds of a run with a server that is well, and the runs as MLflow then knows them."""
    place = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(prepared, place)
    seconds = train(place, kedro, server, 5)
    return seconds, tracked(server, "simulacra")


def train(project: Path, kedro: Kedro, front: Front, pca_dim: int) -> float:
    began = time.monotonic()
    options = ("--pipeline", "train_gmm", "--params", f"mnist.gmm.model.pca_dim={pca_dim}")
    kedro(project, *TEST, *options, MLFLOW_TRACKING_URI=front.uri)
    return time.monotonic() - began


def journals(project: Path) -> list[Path]:
    return list(project.glob("data/test/.simulacra/tracking/*/records.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("worst", ["nobody listens", "hangs", "answers 500", "dies mid-run", "hangs mid-run"])
def test_a_run_goes_on_and_the_next_one_tells_its_story(
    worst: str, project: Path, front: Front, undisturbed: tuple[float, list[Run]], kedro: Kedro, tmp_path: Path
) -> None:
    usual, expected = undisturbed
    if worst == "nobody listens":
        front.close()
    elif "mid-run" in worst:
        front.left, front.then = 9, {"dies mid-run": "dead", "hangs mid-run": "hang"}[worst]
    else:
        front.mode = {"hangs": "hang", "answers 500": "fail"}[worst]
    lost = train(project, kedro, front, 5) - usual
    assert lost < 30, f"{lost:.1f} s lost"
    assert len(journals(project)) == 1 and len(tracked(front, tmp_path.name)) < 3
    front.reset()
    if front.door is None:
        front.open()
    train(project, kedro, front, 6)
    assert not journals(project)

    runs = tracked(front, tmp_path.name)
    assert [run.info.run_name for run in runs] == ["train_gmm", "mnist.gmm", "train_gmm", "mnist.gmm"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert max(run.info.end_time for run in runs[:2]) < min(run.info.start_time for run in runs[2:])
    for run, same in zip(runs, expected, strict=False):
        assert run.data.metrics.keys() == same.data.metrics.keys() and run.data.params == same.data.params
        assert artifacts(front, run) == artifacts(front, same) and run.inputs.dataset_inputs
        for key in same.data.metrics:
            if "second" not in key and "memory" not in key:
                assert run.data.metrics[key] == same.data.metrics[key]
    assert {run.data.params["model.pca_dim"] for run in runs if run.info.run_name == "mnist.gmm"} == {"5", "6"}


def local(project: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    experiments = client.search_experiments(filter_string="name != 'Default'")
    return oldest_first(client.search_runs([one.experiment_id for one in experiments]))


@pytest.mark.slow
def test_a_run_killed_outright_is_marked_by_the_next(project: Path, kedro: Kedro) -> None:
    options = ["--pipeline", "train_vae", "--params", "vae.training.steps=1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", *TEST, *options],
        cwd=project,
        env={key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr
        for line in process.stderr:
            if "mnist.vae.fit" in line:
                break
        progress = Path()
        while process.poll() is None and not (progress.is_file() and "mnist.vae" in progress.read_text()):
            progress = next(project.glob("data/test/.simulacra/tracking/*/progress.json"), progress)
            time.sleep(0.2)
    finally:
        process.kill()
        process.communicate()
    assert {run.info.status for run in local(project)} == {"RUNNING"}
    kedro(project, *TEST, "--pipeline", "train_gmm")
    runs = {run.info.run_name: run for run in local(project)}
    assert {name: run.info.status for name, run in runs.items()} == {
        "train_vae": "KILLED",
        "mnist.vae": "KILLED",
        "train_gmm": "FINISHED",
        "mnist.gmm": "FINISHED",
    }
    assert runs["train_vae"].info.end_time < runs["train_gmm"].info.start_time and not journals(project)


@pytest.mark.slow
def test_two_runs_at_once_share_a_sqlite_file_that_neither_finds_locked(project: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))}
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "kedro", *TEST, "--pipeline", f"train_{family}"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for family in ("gmm", "vae")
    ]
    for process in both:
        log, _ = process.communicate(timeout=200)
        assert process.returncode == 0 and "MLflow" not in log and "locked" not in log, log
    names = sorted(run.info.run_name for run in local(project))
    assert names == ["mnist.gmm", "mnist.vae", "train_gmm", "train_vae"] and not journals(project)
    assert {run.info.status for run in local(project)} == {"FINISHED"}

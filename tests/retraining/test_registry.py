"""The registry in a real store: what is in it is whole, whatever happens while it is written."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from simulacra.data.fabricate import fabricate_images
from simulacra.datasets import ModelDataset
from simulacra.errors import SimulacraError
from simulacra.metrics.passport import passport_id
from simulacra.models import family_class
from simulacra.retraining.registry import MODEL, REQUIREMENTS, Registry, requirements
from simulacra.tracking.config import TrackingConfig
from simulacra.training.config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store: to set up its tables takes longer than most tests."""
    place = tmp_path_factory.mktemp("store")
    Registry(TrackingConfig(), place, "shapes").history()
    return place / "mlflow.db"


@pytest.fixture
def registry(database: Path, tmp_path: Path) -> Registry:
    shutil.copy(database, tmp_path)
    return Registry(TrackingConfig(), tmp_path, "shapes")


def fitted(folder: Path, family: str = "naive_bayes", seed: int = 0, size: int = 8) -> Path:
    """Fit a family to fabricated images, and keep it as the training stage does."""
    data = fabricate_images(n=60, size=size, channels=1, n_classes=2, seed=seed)
    kind = family_class(family)
    config = {"components": [2]} if family == "gmm" else {}
    model = kind(kind.Config.model_validate(config))
    model.fit(data, training=TrainingConfig())
    ModelDataset(str(folder)).save(model)
    return folder


def record(fd: float = 1.0, **more: Any) -> dict[str, Any]:
    passport = {"n_real": 20, "reference_sha256": "test", "seeds": [0, 1]}
    metrics = {"fd_classifier": {"value": fd, "std": 0.1, "per_seed": [fd - 0.1, fd + 0.1]}}
    return {"passport": passport, "passport_id": passport_id(passport), "metrics": metrics} | more


def files_of(registry: Registry, number: int) -> Path:
    return Path(registry.version(number).source.removeprefix("file://"))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_model_is_registered_with_all_that_is_known_of_it(registry: Registry, tmp_path: Path) -> None:
    folder = fitted(tmp_path / "model")
    model = ModelDataset(str(folder)).load()
    told = record(split="abc", run_id="r7", seed=3, git_commit="c1", tick="shapes 2026-11-02")
    version = registry.register(folder, record=told)
    assert (version.number, version.family, version.aliases) == (1, "naive_bayes", ())
    assert (version.model_sha256, version.train_sha256) == (model.fingerprint(), model.train_sha256)
    assert version.metrics == {"fd_classifier": {"value": 1.0, "std": 0.1}}
    tags = version.tags
    assert (tags["split"], tags["training_run"], tags["seed"], tags["git_commit"]) == ("abc", "r7", "3", "c1")
    assert tags["tick"] == "shapes 2026-11-02"
    assert json.loads(tags["passport"]) == told["passport"] and tags["passport_id"] == told["passport_id"]
    assert json.loads(tags["seeds"]) == [0, 1]
    place = files_of(registry, 1)
    stored = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    own = {f"{MODEL}/model.json", f"{MODEL}/tensors.safetensors", "artifacts/record.json"}
    assert stored >= {*own, "MLmodel", "serving.py", "input_example.json"}
    assert not [name for name in stored if name.endswith((".pkl", ".pickle", ".pt"))]
    assert json.loads((place / "artifacts/record.json").read_text()) == told


def test_what_a_version_requires_is_pinned_and_of_no_index(registry: Registry, tmp_path: Path) -> None:
    registry.register(fitted(tmp_path / "model"), record=record())
    lines = (files_of(registry, 1) / "requirements.txt").read_text().split()
    assert lines == requirements("naive_bayes") and all("==" in line and "://" not in line for line in lines)
    declared = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{name}' in declared for name in REQUIREMENTS)


def test_the_same_weights_under_the_same_passport_are_registered_once(registry: Registry, tmp_path: Path) -> None:
    folder = fitted(tmp_path / "model")
    first = registry.register(folder, record=record())
    assert registry.register(folder, record=record(fd=2.0)) == first
    other = record()
    other["passport"] = other["passport"] | {"n_real": 21}
    assert registry.register(folder, record=other | {"passport_id": passport_id(other["passport"])}).number == 2
    assert registry.register(fitted(tmp_path / "gmm", "gmm"), record=record()).number == 3
    assert [version.number for version in registry.history()] == [3, 2, 1]


def test_aliases_move_and_come_back(registry: Registry, tmp_path: Path) -> None:
    assert registry.champion() is None and registry.history() == []
    for seed in range(3):
        registry.register(fitted(tmp_path / f"model{seed}", seed=seed), record=record())
    assert registry.champion() is None
    registry.promote(1)
    assert registry.champion() == registry.version(1) and registry.previous() is None
    with pytest.raises(SimulacraError, match="no version to go back to"):
        registry.rollback()
    assert registry.challenge(2).aliases == ("challenger",)
    assert registry.promote(2).aliases == ("champion",) and registry.version(1).aliases == ("previous",)
    registry.promote(2)
    assert registry.version(1).aliases == ("previous",), "promoting the champion again changes nothing"
    registry.promote(3)
    down, back = registry.rollback()
    assert (down.number, back.number) == (3, 2)
    assert registry.version(2).aliases == ("champion",) and registry.version(3).aliases == ("previous",)
    assert [each.number for each in registry.rollback()] == [2, 3], "a second rollback undoes the first"


def test_a_fetched_model_is_the_one_that_was_registered(registry: Registry, tmp_path: Path) -> None:
    folder = fitted(tmp_path / "model", "gmm")
    version = registry.register(folder, record=record())
    place = registry.fetch(version, tmp_path / "out" / "champion")
    original, fetched = (ModelDataset(str(each)).load() for each in (folder, place))
    assert fetched.fingerprint() == original.fingerprint()
    assert (fetched.sample(5, seed=1).images == original.sample(5, seed=1).images).all()
    registry.fetch(version, place)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/thesis.txt").write_text("mine")
    with pytest.raises(SimulacraError, match="holds no model but something else"):
        registry.fetch(version, tmp_path / "papers")
    assert (tmp_path / "papers/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [f"{MODEL}/tensors.safetensors", "serving.py", "MLmodel"])
def test_a_damaged_version_is_never_promoted_and_mends_when_registered_again(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    registry.promote(registry.register(fitted(tmp_path / "a"), record=record()).number)
    folder = fitted(tmp_path / "b", seed=1)
    version = registry.register(folder, record=record())
    damage(files_of(registry, 2) / name)
    with pytest.raises(SimulacraError, match=rf"version 2 of simulacra.shapes .*/{Path(name).name} is damaged"):
        registry.promote(2)
    champion = registry.champion()
    assert champion is not None and champion.number == 1
    assert registry.register(folder, record=record()).number == version.number
    assert registry.promote(2).aliases == ("champion",)
    (files_of(registry, 1) / name).unlink()
    with pytest.raises(SimulacraError, match="missing"):
        registry.rollback()
    assert registry.version(2).aliases == ("champion",)
    if name.startswith(MODEL):
        with pytest.raises(SimulacraError, match="missing"):
            registry.fetch(registry.version(1), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_version_that_is_whole_and_does_not_load_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    registry.register(fitted(tmp_path / "model"), record=record())
    place = files_of(registry, 1) / MODEL / "model.json"
    place.write_text(place.read_text().replace("naive_bayes", "naive_baker"))
    from simulacra.retraining.registry import _hashes

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.set_model_version_tag("simulacra.shapes", "1", "files", json.dumps(_hashes(files_of(registry, 1))))
    with pytest.raises(SimulacraError, match=r"does not load.*naive_baker"):
        registry.promote(1)
    assert registry.champion() is None


def test_mistakes_are_told_in_one_line(registry: Registry, tmp_path: Path) -> None:
    folder = fitted(tmp_path / "model")
    with pytest.raises(SimulacraError, match="has no version 1; there are: none yet"):
        registry.promote(1)
    with pytest.raises(SimulacraError, match="has no champion yet"):
        registry.rollback()
    with pytest.raises(SimulacraError, match="lacks passport, passport_id"):
        registry.register(folder, record={"metrics": {}})
    with pytest.raises(SimulacraError, match="about another model"):
        registry.register(folder, record=record(model_sha256="0" * 64))
    damage(folder / "tensors.safetensors")
    with pytest.raises(SimulacraError, match="is damaged"):
        registry.register(folder, record=record())
    assert registry.history() == []


def test_a_registry_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    settings = TrackingConfig(tracking_uri="http://me:secret@127.0.0.1:9", timeout=1)
    began = time.monotonic()
    with pytest.raises(SimulacraError, match=r"registry at http://127.0.0.1:9 cannot .*; see that it runs") as told:
        Registry(settings, tmp_path, "shapes").champion()
    assert "secret" not in str(told.value) and "\n" not in str(told.value) and time.monotonic() - began < 15


PARENT = """
import json, os, resource, signal, sys, threading, traceback
from pathlib import Path
from simulacra.errors import SimulacraError
from simulacra.retraining.registry import Registry
from simulacra.tracking.config import TrackingConfig


def kill_before_commit(number):
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    written, commits = set(), []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(connection, cursor, statement, *_):
        if statement.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE"):
            written.add(id(connection))

    @event.listens_for(Engine, "commit")
    def kill(connection):
        if id(connection) in written:
            written.discard(id(connection))
            commits.append(connection)
            if len(commits) == number:
                os.kill(os.getpid(), signal.SIGKILL)


def work(job):
    place = Path(job["place"])
    if job.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    registry = Registry(TrackingConfig(), place, "shapes")
    if job.get("commit"):
        kill_before_commit(job["commit"])
    if job.get("call"):
        getattr(registry, job["call"])(*job["arguments"])
    for _ in range(job.get("rounds", 0)):
        for name in job["names"]:
            print(name, flush=True)
            registry.promote(registry.register(place / name, record=job["record"]).number)


def child(job):
    said = os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1), os.dup2(said, 2)
    try:
        work(job)
    except SimulacraError as error:
        print(error, flush=True)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(2)
    os._exit(0)


# Do once what forks will do: they inherit all that is imported for it, which takes a new process seconds.
work(json.loads(sys.stdin.readline()))
assert threading.active_count() == 1, "no fork may inherit a lock that a thread holds"
for line in sys.stdin:
    job = json.loads(line)
    answer = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]) if "wait" in job else os.fork() or child(job)
    os.write(3, f"{answer}\\n".encode())
"""


class Forks:
    """Processes that each do one job in some store, and are forked from one that has done such a job.

    Args:
        place: where that one is done: a folder with a store and a model.
        name: folder of the model.
    """

    def __init__(self, place: Path, name: str) -> None:
        self._answers, writing = os.pipe()
        command = ["-c", f"import os; os.dup2({writing}, 3)\n{PARENT}"]
        self._parent = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            pass_fds=[writing],
            bufsize=1,
        )
        os.close(writing)
        self._reader = os.fdopen(self._answers)
        self._say({"place": str(place), "names": [name], "rounds": 1, "record": record()})

    def start(self, place: Path, **job: Any) -> tuple[int, Path]:
        """Return a new process, and the file that it prints to."""
        said = place / f"said-{time.monotonic_ns()}"
        return self._ask({"place": str(place), "said": str(said), "record": record()} | job), said

    def wait(self, pid: int) -> int:
        """Return a process's exit code; a negative one is the signal that it died of."""
        return self._ask({"wait": pid})

    def close(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._reader.close()
        assert self._parent.wait(20) == 0

    def _ask(self, job: dict[str, Any]) -> int:
        self._say(job)
        return int(self._reader.readline())

    def _say(self, job: dict[str, Any]) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(f"{json.dumps(job)}\n")


@pytest.fixture(scope="module")
def forks(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    place = tmp_path_factory.mktemp("forks")
    shutil.copy(database, place)
    forks = Forks(place, fitted(place / "model", "gmm").name)
    yield forks
    forks.close()


def test_a_full_disk_is_told_and_the_next_call_goes_on(registry: Registry, forks: Forks, tmp_path: Path) -> None:
    registry.promote(registry.register(fitted(tmp_path / "a"), record=record()).number)
    fitted(tmp_path / "b", seed=1, size=48)
    limit = 1_500_000
    assert (tmp_path / "mlflow.db").stat().st_size < limit < (tmp_path / "b/tensors.safetensors").stat().st_size
    began = time.monotonic()
    full, said = forks.start(tmp_path, names=["b"], rounds=1, limit=limit)
    code, told = forks.wait(full), said.read_text().strip().splitlines()
    assert code == 1 and "cannot be written: File too large; make room" in told[-1], told
    assert "no alias has moved" in told[-1] and time.monotonic() - began < 30
    assert [version.aliases for version in registry.history()] == [("champion",)]
    assert registry.register(tmp_path / "b", record=record()).number == 2
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert len(runs) == 2, "the run that was begun is the one that is finished"


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_at_random(registry: Registry, forks: Forks, place: Path, kills: int, seed: int) -> None:
    """Kill a process that registers and promotes; after each time look at what it left."""
    names = [
        fitted(place / name, family, number).name
        for number, (name, family) in enumerate(
            (("a", "naive_bayes"), ("b", "gmm"), ("c", "naive_bayes"), ("d", "gmm"))
        )
    ]
    registry.promote(registry.register(fitted(place / "first", seed=9), record=record()).number)
    moments = random.Random(seed)
    for _ in range(kills):
        process, said = forks.start(place, names=names, rounds=1000)
        until(lambda said=said: said.exists() and said.read_text())
        time.sleep(moments.uniform(0.0, 1.0))
        os.kill(process, signal.SIGKILL)
        assert forks.wait(process) == -signal.SIGKILL, said.read_text()
        champion = registry.need_champion()
        registry.check(champion)
        model = ModelDataset(str(registry.fetch(champion, place / "served"))).load()
        assert len(model.sample(3, seed=0)) == 3
        known = [(version.model_sha256, version.passport_id) for version in registry.history()]
        assert len(known) == len(set(known)), "something is registered twice"
        # What was killed on its way is forgotten, so that it is begun anew.
        if len(known) == len(names) + 1 and champion.number < len(known):
            newest = registry.history()[0]
            MlflowClient(f"sqlite:///{place}/mlflow.db").delete_model_version(registry.name, str(newest.number))
    for name in names:
        registry.register(place / name, record=record())
    assert len({version.model_sha256 for version in registry.history()}) == len(names) + 1 == len(registry.history())


def test_killed_processes_leave_a_champion_and_nothing_twice(registry: Registry, forks: Forks, tmp_path: Path) -> None:
    kill_at_random(registry, forks, tmp_path, kills=6, seed=0)


@pytest.mark.slow
def test_sixty_killed_processes_leave_a_champion_and_nothing_twice(
    registry: Registry, forks: Forks, tmp_path: Path
) -> None:
    kill_at_random(registry, forks, tmp_path, kills=60, seed=1)


def test_two_processes_that_register_the_same_make_one_version(
    registry: Registry, forks: Forks, tmp_path: Path
) -> None:
    fitted(tmp_path / "a")
    both = [forks.start(tmp_path, names=["a"], rounds=1) for _ in range(2)]
    for pid, said in both:
        assert forks.wait(pid) == 0, said.read_text()
    (version,) = registry.history()
    assert version.aliases == ("champion",)
    registry.check(version)


@pytest.fixture(scope="module")
def three(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three versions, none of which is anything yet."""
    place = tmp_path_factory.mktemp("three")
    shutil.copy(database, place)
    registry = Registry(TrackingConfig(), place, "shapes")
    for seed in range(3):
        registry.register(fitted(place / f"model{seed}", seed=seed), record=record())
    return place / "mlflow.db"


def at(place: Path) -> dict[str, int]:
    """Return where MLflow's aliases point, which others read too."""
    found = MlflowClient(f"sqlite:///{place}/mlflow.db").get_registered_model("simulacra.shapes").aliases
    return {alias: int(number) for alias, number in found.items()}


def numbers(registry: Registry) -> tuple[int | None, int | None, int | None]:
    """Return champion, previous and challenger."""
    found = registry.champion(), registry.previous(), registry.challenger()
    champion, previous, challenger = (version and version.number for version in found)
    return champion, previous, challenger


@pytest.mark.parametrize(
    ("call", "arguments", "after"),
    [
        ("promote", [3], (3, 2)),
        ("rollback", [], (1, 2)),
    ],
)
def test_killed_at_any_write_the_champion_and_the_one_before_are_known(
    three: Path, forks: Forks, tmp_path: Path, call: str, arguments: list[int], after: tuple[int, int]
) -> None:
    """Champion 2 took over from 1, and 3 waits: a process changes that, and is killed before each of its commits."""
    (tmp_path / "before").mkdir()
    shutil.copy(three, tmp_path / "before")
    registry = Registry(TrackingConfig(), tmp_path / "before", "shapes")
    registry.promote(1)
    registry.promote(2)
    registry.challenge(3)
    seen = []
    for commit in range(1, 99):
        place = tmp_path / str(commit)
        place.mkdir()
        shutil.copy(tmp_path / "before/mlflow.db", place)
        registry = Registry(TrackingConfig(), place, "shapes")
        assert numbers(registry) == (2, 1, 3)
        pid, said = forks.start(place, call=call, arguments=arguments, commit=commit)
        code = forks.wait(pid)
        assert code in (0, -signal.SIGKILL), said.read_text()
        stored = at(place)
        found = numbers(registry)
        assert found in {(2, 1, 3), (*after, None)}, (commit, stored)
        assert stored["champion"] == found[0], "the champion is whoever that alias points to, before and after"
        roles = ("champion", "previous", "challenger")
        assert at(place) == {role: number for role, number in zip(roles, found, strict=True) if number}
        champion = registry.need_champion()
        registry.check(champion)
        down, back = registry.rollback()
        assert (down.number, back.number) == found[:2]
        assert numbers(registry) == (found[1], found[0], None)
        seen.append(found)
        if code == 0:
            break
    assert len(seen) >= 4 and seen[0] == (2, 1, 3) and seen[-1] == (*after, None)
    assert seen == sorted(seen, key=lambda each: each != (2, 1, 3)), "there is one moment at which it changes"


def test_whatever_is_killed_in_a_row_a_rollback_leads_to_the_one_before(
    three: Path, forks: Forks, tmp_path: Path
) -> None:
    """Changes drawn at random, most of them killed, compared with who was seen to be champion when."""
    shutil.copy(three, tmp_path)
    registry, draw = Registry(TrackingConfig(), tmp_path, "shapes"), random.Random(0)
    champion: int | None = None
    before: int | None = None
    kills = 0
    for _ in range(24):
        call = draw.choice(("promote", "promote", "challenge", "rollback"))
        arguments = [] if call == "rollback" else [draw.randint(1, 3)]
        pid, said = forks.start(tmp_path, call=call, arguments=arguments, commit=draw.randint(1, 4))
        code = forks.wait(pid)
        kills += code == -signal.SIGKILL
        assert code <= 0 or "has no version to go back to" in said.read_text() or champion is None, said.read_text()
        found = at(tmp_path).get("champion")
        if found != champion:
            champion, before = found, champion
        assert numbers(registry)[:2] == (champion, before)
        waiting = registry.challenger()
        assert waiting is None or waiting.number != champion
    assert kills > 8 and before is not None
    assert [version.number for version in registry.rollback()] == [champion, before]


def test_a_challenger_waits_behind_one_champion_until_a_later_one_passes(three: Path, tmp_path: Path) -> None:
    shutil.copy(three, tmp_path)
    registry = Registry(TrackingConfig(), tmp_path, "shapes")
    assert registry.challenge(2).aliases == ("challenger",), "it may wait to be the first"
    registry.promote(1)
    assert numbers(registry) == (1, None, None), "another one is champion now, which it was not compared with"
    registry.challenge(2)
    registry.promote(1)
    assert numbers(registry) == (1, None, 2), "nothing has changed"
    assert registry.challenge(1).aliases == ("champion",), "who is champion does not wait"
    registry.challenge(3)
    assert numbers(registry) == (1, None, 3)
    registry.promote(3)
    assert numbers(registry) == (3, 1, None)
    registry.challenge(2)
    registry.rollback()
    assert numbers(registry) == (1, 3, None)


def test_aliases_of_before_and_those_set_by_hand_are_left_as_they_are(three: Path, tmp_path: Path) -> None:
    """Versions that say nothing of whom they took over from, as any that were registered by other means."""
    shutil.copy(three, tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for alias, number in (("champion", "3"), ("previous", "1"), ("challenger", "2"), ("mine", "3")):
        client.set_registered_model_alias("simulacra.shapes", alias, number)
    registry = Registry(TrackingConfig(), tmp_path, "shapes")
    assert numbers(registry) == (3, 1, 2)
    assert [version.number for version in registry.rollback()] == [3, 1]
    assert numbers(registry)[:2] == (1, 3) and at(tmp_path)["mine"] == 3
    client.delete_model_version("simulacra.shapes", "3")
    assert numbers(registry)[:2] == (1, None)
    with pytest.raises(SimulacraError, match="no version to go back to"):
        registry.rollback()


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("a letter, which somebody has saved by the name of a database")
    with pytest.raises(SimulacraError, match=r"mlflow.db cannot be opened; see that the file is whole"):
        Registry(TrackingConfig(timeout=1), tmp_path, "shapes")
    assert (tmp_path / "mlflow.db").read_text().startswith("a letter")

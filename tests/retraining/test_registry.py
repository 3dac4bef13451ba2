"""The registry in a real store: what is in it is whole, whatever happens while it is written."""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
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
    told = record(split="abc", run_id="r7", seed=3, git_commit="c1")
    version = registry.register(folder, record=told)
    assert (version.number, version.family, version.aliases) == (1, "naive_bayes", ())
    assert (version.model_sha256, version.train_sha256) == (model.fingerprint(), model.train_sha256)
    assert version.metrics == {"fd_classifier": {"value": 1.0, "std": 0.1}}
    tags = version.tags
    assert (tags["split"], tags["training_run"], tags["seed"], tags["git_commit"]) == ("abc", "r7", "3", "c1")
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


SCRIPT = """
import json, sys
from pathlib import Path
from simulacra.errors import SimulacraError
from simulacra.retraining.registry import Registry
from simulacra.tracking.config import TrackingConfig

place, names, record = Path(sys.argv[1]), sys.argv[2].split(), json.loads(sys.argv[3])
registry = Registry(TrackingConfig(), place, "shapes")
try:
    for _ in range(int(sys.argv[4])):
        for name in names:
            print(name, flush=True)
            registry.promote(registry.register(place / name, record=record).number)
except SimulacraError as error:
    sys.exit(str(error))
"""


def script(place: Path, names: str, rounds: int, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(place), names, json.dumps(record()), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_full_disk_is_told_and_the_next_call_goes_on(registry: Registry, tmp_path: Path) -> None:
    registry.promote(registry.register(fitted(tmp_path / "a"), record=record()).number)
    fitted(tmp_path / "b", seed=1, size=48)
    limit = 1_500_000
    assert (tmp_path / "mlflow.db").stat().st_size < limit < (tmp_path / "b/tensors.safetensors").stat().st_size
    began = time.monotonic()
    full = script(tmp_path, "b", 1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    told = full.communicate(timeout=60)[1].strip().splitlines()
    assert full.returncode == 1 and "cannot be written: File too large; make room" in told[-1], told
    assert "no alias has moved" in told[-1] and time.monotonic() - began < 30
    assert [version.aliases for version in registry.history()] == [("champion",)]
    assert registry.register(tmp_path / "b", record=record()).number == 2
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert len(runs) == 2, "the run that was begun is the one that is finished"


def kill_at_random(registry: Registry, place: Path, kills: int, seed: int) -> None:
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
        process = script(place, " ".join(names), 1000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0.0, 3.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
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


def test_a_killed_process_leaves_a_champion_and_nothing_twice(registry: Registry, tmp_path: Path) -> None:
    kill_at_random(registry, tmp_path, kills=4, seed=0)


@pytest.mark.slow
def test_twenty_killed_processes_leave_a_champion_and_nothing_twice(registry: Registry, tmp_path: Path) -> None:
    kill_at_random(registry, tmp_path, kills=20, seed=1)


def test_two_processes_that_register_the_same_make_one_version(registry: Registry, tmp_path: Path) -> None:
    fitted(tmp_path / "a")
    both = [script(tmp_path, "a", 1) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0], [each.communicate()[1] for each in both]
    (version,) = registry.history()
    assert version.aliases == ("champion",)
    registry.check(version)


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("a letter, which somebody has saved by the name of a database")
    with pytest.raises(SimulacraError, match=r"mlflow.db cannot be opened; see that the file is whole"):
        Registry(TrackingConfig(timeout=1), tmp_path, "shapes")
    assert (tmp_path / "mlflow.db").read_text().startswith("a letter")

"""Saving that is killed, has no room, or whose files are damaged afterwards: in whole runs, by the user's command."""

import os
import pickle
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError

from simulacra import files
from simulacra.datasets import CheckedDataset, ClassifierDataset, ImageSetDataset, ModelDataset
from simulacra.errors import SimulacraError
from simulacra.training import checkpoint

Run = Callable[..., subprocess.CompletedProcess[str]]
TEST = ("run", "--env", "test")

SABOTAGE = '''
import os, resource, signal, sys

def die(event, arguments):
    """Kill this process at an event whose path, or for a rename whose target, ends as told."""
    if event == wanted and str(arguments[event == "os.rename"]).endswith(ending):
        os.kill(os.getpid(), signal.SIGKILL)

if "DIE_AT" in os.environ:
    wanted, ending = os.environ["DIE_AT"].split(" ")
    sys.addaudithook(die)
if "LARGEST_FILE" in os.environ:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
'''


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project of one's own, without its MLflow store, which names places by absolute paths."""
    place = tmp_path / "project"
    shutil.copytree(finished_project, place, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
    return place


@pytest.fixture
def sabotaged(kedro: Run, tmp_path: Path) -> Run:
    """Run kedro with something that Python imports first and that harms it as the environment says."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)

    def run(*arguments: Any, **environment: Any) -> subprocess.CompletedProcess[str]:
        return kedro(*arguments, PYTHONPATH=str(tmp_path), **environment)

    return run


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob(".*") if path.suffix != ".seal"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def places(project: Path) -> Iterator[Path]:
    """All that is sealed in a project's data."""
    for seal in sorted((project / "data/test").glob("0*/**/.*.seal")):
        yield seal.with_name(seal.name[1 : -len(".seal")])


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("open .model/model/tensors.safetensors", id="before the seal", marks=pytest.mark.slow),
        pytest.param("os.rename gmm/.model.former", id="between seal and folder", marks=pytest.mark.slow),
        pytest.param("os.rename gmm/model", id="while the former folder stands aside"),
    ],
)
def test_killed_while_it_saves_a_run_leaves_the_former_file_and_the_next_one_ends_well(
    project: Path, kedro: Run, sabotaged: Run, moment: str
) -> None:
    place = project / "data/test/06_models/mnist/gmm/model"
    before = files.check(place)
    again = (*TEST, "--pipeline", "train_gmm", "--params", "seed=1")
    sabotaged(project, *again, code=-signal.SIGKILL, DIE_AT=moment)
    assert hidden(place.parent)
    assert files.sealed(place) == files.check(place) == before
    kedro(project, *again)
    assert files.check(place) != before and not hidden(place.parent)


def test_killed_among_its_pictures_a_drawing_leaves_the_former_ones(project: Path, kedro: Run, sabotaged: Run) -> None:
    place = project / "data/test/07_model_output/mnist/gmm/drawn"
    before = files.check(place)
    again = (*TEST, "--pipeline", "generate", "--params", "gmm.sampling.classes=1,gmm.sampling.seed=1")
    sabotaged(project, *again, code=-signal.SIGKILL, DIE_AT="open drawn/00005_disc.png")
    assert hidden(place.parent) and files.check(place) == before
    kedro(project, *again)
    assert sorted(path.name for path in place.iterdir()) == [f"0000{number}_disc.png" for number in range(8)]
    assert not hidden(place.parent)


def test_a_disk_that_is_full_is_told_by_the_file_s_name_and_leaves_the_former_file(
    project: Path, sabotaged: Run
) -> None:
    place = project / "data/test/01_raw/mnist/images.safetensors"
    before = files.check(place)
    large = (*TEST, "--pipeline", "ingest", "--params", "mnist.source.n=20000")
    done = sabotaged(project, *large, code=1, LARGEST_FILE="2000000")
    assert f"Error: {place} cannot be written: File too large" in done.stderr and "Traceback" not in done.stderr
    assert files.check(place) == before and not hidden(place.parent)


def test_a_file_in_the_place_of_a_folder_is_named(fresh_project: Path, kedro: Run) -> None:
    """Root may write to a read-only folder, but nobody into a file."""
    (fresh_project / "data/test").mkdir(parents=True)
    (fresh_project / "data/test/01_raw").write_text("a note")
    done = kedro(fresh_project, *TEST, "--pipeline", "ingest", code=1)
    assert "01_raw/mnist/images.safetensors cannot be written" in done.stderr
    assert "01_raw is a file, not a folder" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_by_the_file_s_name(project: Path, kedro: Run) -> None:
    place = project / "data/test/01_raw/mnist/images.safetensors"
    place.parent.chmod(0o500)
    try:
        done = kedro(project, *TEST, "--pipeline", "ingest", "--params", "force=true", code=1)
    finally:
        place.parent.chmod(0o700)
    assert f"{place} cannot be written: Permission denied" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("file", "stage", "damage"),
    [
        ("07_model_output/mnist/gmm/samples.safetensors", "evaluate", flip),
        ("08_reporting/mnist/gmm/metrics.json", "report", lambda path: path.write_bytes(b"")),
        ("06_models/mnist/gmm/model/tensors.safetensors", "generate", flip),
    ],
)
def test_a_damaged_file_is_refused_by_name_at_the_next_stage(
    project: Path, kedro: Run, file: str, stage: str, damage: Callable[[Path], object]
) -> None:
    damage(project / "data/test" / file)
    done = kedro(project, *TEST, "--pipeline", stage, code=1)
    assert f"{project}/data/test/{file} is damaged" in done.stderr and "Traceback" not in done.stderr


def test_every_file_of_a_run_is_sealed_and_refused_by_name_where_one_bit_is_flipped(project: Path) -> None:
    data = project / "data/test"
    written = {path for path in data.glob("0*/**/*") if path.is_file() and not path.name.startswith(".")}
    for place in places(project):
        sealed = {place} if place.is_file() else {path for path in place.rglob("*") if path.is_file()}
        written -= sealed
        for path in sealed:
            whole, times = path.read_bytes(), path.stat()
            flip(path)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            with pytest.raises(SimulacraError, match=f"{path.name} is damaged: its bytes are not those"):
                files.check(place)
            path.write_bytes(whole)
            assert files.check(place)
    assert {path.relative_to(data).parts[-2] for path in written} <= {"checkpoints"}


class Evil:
    """What a pickle holds that touches a file as soon as it is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return Path.touch, (self.canary,)


def json_dataset(place: str) -> CheckedDataset:
    return CheckedDataset(place, "json.JSONDataset")


@pytest.mark.parametrize(
    ("place", "file", "dataset"),
    [
        ("05_model_input/mnist/train.safetensors", "", ImageSetDataset),
        ("07_model_output/mnist/vae/samples.safetensors", "", ImageSetDataset),
        ("08_reporting/mnist/vae/metrics.json", "", json_dataset),
        ("06_models/mnist/vae/history.csv", "", lambda place: CheckedDataset(place, "pandas.CSVDataset")),
        ("06_models/mnist/vae/model", "tensors.safetensors", ModelDataset),
        ("06_models/mnist/vae/model", "model.json", ModelDataset),
        ("06_models/mnist/gmm/model", "tensors.safetensors", ModelDataset),
        ("06_models/mnist/extractor", "tensors.safetensors", ClassifierDataset),
        ("06_models/mnist/extractor", "classifier.json", ClassifierDataset),
    ],
)
@pytest.mark.parametrize("forged", [False, True], ids=["", "with a seal of its own"])
def test_a_pickle_in_the_place_of_a_file_is_refused_and_never_opened(
    project: Path, tmp_path: Path, place: str, file: str, dataset: Callable, forged: bool
) -> None:
    victim, canary = project / "data/test" / place, tmp_path / "canary"
    (victim / file).write_bytes(pickle.dumps(Evil(canary)))
    if forged:
        reseal(victim)
    with pytest.raises(
        DatasetError, match="was written by another version" if forged else "is damaged: it has"
    ) as told:
        dataset(str(victim)).load()
    assert str(victim) in str(told.value.__cause__) and not canary.exists()


def reseal(place: Path) -> None:
    """Do what somebody would who knows how seals are made."""
    copy = place.with_name("copy")
    place.rename(copy)
    files.write(place, copy.rename)


@pytest.mark.parametrize("file", ["tensors.safetensors", "facts.json"])
@pytest.mark.parametrize("forged", [False, True], ids=["", "with a seal of its own"])
def test_a_pickle_in_the_place_of_a_checkpoint_is_never_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, forged: bool
) -> None:
    canary, folder = tmp_path / "canary", tmp_path / "checkpoints"
    checkpoint.save(folder, checkpoint.Checkpoint(3, {"module": {"w": torch.ones(2)}}, {"identity": {}}))
    (place,) = folder.glob("step-*")
    (place / file).write_bytes(pickle.dumps(Evil(canary)))
    if forged:
        reseal(place)
    assert checkpoint.load(folder, {}) is None
    assert "passed over a checkpoint" in caplog.text and not canary.exists()

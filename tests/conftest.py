"""What many tests need: small data, and a copy of the project to run in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Tests run side by side: threads of several of them on one core would wait for each other most of the time. Set before
# torch is imported, and inherited by the processes that the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("conf", "src", "pyproject.toml", ".telemetry")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def images() -> ImageSet:
    """Three learnable classes of 8×8 grey pictures."""
    return fabricate_images(n=180, size=8, channels=1, n_classes=3, seed=0)


def copy_project(place: Path, *, few: bool = True) -> Path:
    """Copy all that a run needs, without data, environment or history; with `few`, two families stand for all."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "local"))
        else:
            shutil.copy(source, place / part)
    (place / "conf/local").mkdir()
    if few:
        experiments = "".join(f"{dataset}:\n  families: [gmm, vae]\n" for dataset in ("mnist", "image_folder"))
        (place / "conf/test/experiments.yml").write_text(experiments)
    return place


@pytest.fixture
def fresh_project(tmp_path: Path) -> Path:
    """A copy of the project for one test."""
    return copy_project(tmp_path)


@pytest.fixture(scope="session")
def copied() -> Callable[[Path], Path]:
    """What copies the project to a place of its own, for a module that shares one."""
    return copy_project


@pytest.fixture(scope="session")
def kedro() -> Run:
    """Run kedro in a project and return what it printed; it must end with the code expected."""

    def run(project: Path, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))}
        done = subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=project,
            env=clean | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-5000:]
        return done

    return run


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory, kedro: Run) -> Path:
    """A project in which two families went through the graph on fabricated data; tests leave it as it is."""
    return _run_through(copy_project(tmp_path_factory.mktemp("finished")), kedro)


@pytest.fixture(scope="session")
def whole_project(tmp_path_factory: pytest.TempPathFactory, kedro: Run) -> Path:
    """The same with all families, which takes much longer."""
    return _run_through(copy_project(tmp_path_factory.mktemp("whole"), few=False), kedro)


def _run_through(project: Path, kedro: Run) -> Path:
    done = kedro(project, "run", "--env", "test")
    (project / "run.log").write_text(done.stdout + done.stderr)
    return project

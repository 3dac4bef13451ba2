"""Nothing done twice, and never two at once: whole `kedro run`s in copies of a finished project."""

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
TEST = ("run", "--env", "test")
DATA = "data/test"


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Path:
    """A copy of one's own; the MLflow store is left behind, since it names places by absolute paths."""
    return shutil.copytree(finished_project, tmp_path / "p", ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run in the background; return it once its log names the text waited for."""
    started: list[subprocess.Popen[str]] = []

    def begin(project: Path, *arguments: str, until: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kedro", *TEST, *arguments]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))}
        process = subprocess.Popen(
            command, cwd=project, env=clean, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        started.append(process)
        while until and until not in (line := process.stderr.readline()):
            assert line, f"it ended before {until}"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def files(project: Path) -> dict[str, bytes]:
    """All data by name, without the seals, which tell the time as well."""
    root = project / DATA
    found = [path for path in root.glob("0*/**/*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def processor_seconds() -> float:
    """What this test's children have computed; on a busy machine they wait, and that is not theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ran(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The nodes that ran."""
    begun = re.findall(r" \d+ of \d+  (\S+)$", done.stderr, re.M)
    return set(begun) - set(re.findall(r"unchanged: (\S+)$", done.stderr, re.M))


def test_a_second_run_does_nothing_says_so_and_ends_in_seconds(project: Path, kedro: Run) -> None:
    before = files(project)
    began = processor_seconds()
    done = kedro(project, *TEST, anew=True)
    assert processor_seconds() - began < 15
    assert "nothing to do: all 32 nodes are up to date" in done.stdout and "--params force=true" in done.stdout
    assert "real vs real (floor)" in done.stdout and "report.html" in done.stdout and "mlflow ui" in done.stdout
    done = kedro(project, *TEST, "--pipeline", "train")
    assert "nothing to do: all 4 nodes are up to date" in done.stdout
    done = kedro(project, *TEST, "--from-nodes", "mnist.gmm.evaluate", "--runner", "ParallelRunner")
    assert "nothing to do: all 4 nodes are up to date" in done.stdout
    assert files(project) == before
    assert not (project / DATA / "mlflow.db").exists()


def test_a_parameter_of_one_family_changes_that_family_leaderboard_and_report(project: Path, kedro: Run) -> None:
    before = files(project)
    other = ("--params", "vae.model.beta=2")
    done = kedro(project, *TEST, *other)
    verbs = ("fit", "plot_curves", "generate", "plot_samples", "evaluate", "try_augmentation", "summarise")
    verbs += ("find_neighbours",)
    verbs += ("explore", "draw_panels", "map_latents", "draw", "plot_drawn")
    assert ran(done) == {f"mnist.vae.{verb}" for verb in verbs} | {"mnist.make_leaderboard", "mnist.write_report"}
    assert "17 of 32 nodes are up to date" in done.stderr
    changed = {name for name, content in files(project).items() if content != before.get(name)}
    assert {name for name in changed if "/vae/" not in name} == {
        "08_reporting/mnist/leaderboard.csv",
        "08_reporting/mnist/report.html",
    }
    assert "nothing to do" in kedro(project, *TEST, *other).stdout


def test_another_drawing_leaves_what_is_judged_alone(project: Path, kedro: Run) -> None:
    done = kedro(project, *TEST, "--params", "vae.sampling.seed=2,vae.sampling.temperature=0.5")
    anew = {"mnist.vae.draw", "mnist.vae.plot_drawn", "mnist.vae.summarise"}
    assert ran(done) == anew | {"mnist.make_leaderboard", "mnist.write_report"}


def test_what_is_read_though_settings_or_source_changed_is_said(project: Path, kedro: Run) -> None:
    told = "is used as it is, though settings, source or code are others now; kedro run --namespaces mnist makes"
    done = kedro(project, *TEST, "--pipeline", "generate", "--params", "vae.model.beta=3")
    assert f"what mnist.vae.fit made {told}" in " ".join(done.stderr.split())
    done = kedro(project, *TEST, "--namespaces", "mnist.gmm", "--params", "mnist.source.n=301")
    assert "what mnist.ingest, mnist.split, mnist." in " ".join(done.stderr.split())
    assert "is used as it is" not in kedro(project, *TEST, "--namespaces", "mnist.gmm").stderr


def test_deleted_and_damaged_results_are_made_again_and_nothing_else(project: Path, kedro: Run) -> None:
    before = files(project)
    (project / DATA / "05_model_input/mnist/validation.safetensors").unlink()
    grid = project / DATA / "07_model_output/mnist/gmm/grid.png"
    grid.write_bytes(grid.read_bytes()[:-10])
    done = kedro(project, *TEST)
    assert ran(done) == {"mnist.split", "mnist.gmm.plot_samples"}
    assert "unchanged: mnist.vae.fit" in done.stderr and "real vs real (floor)" in done.stdout
    after = files(project)
    assert all(after[name] == before[name] for name in before if not name.endswith("grid.png"))
    done = kedro(project, *TEST)
    assert "nothing to do" in done.stdout


def test_force_runs_what_is_selected_and_a_command_to_repeat_leaves_it_out(project: Path, kedro: Run) -> None:
    done = kedro(project, *TEST, "--pipeline", "train_gmm", "--params", "force=true")
    assert ran(done) == {"mnist.gmm.fit", "mnist.gmm.plot_curves"}
    record = (project / DATA / "06_models/mnist/gmm/training.json").read_text()
    assert "kedro run --namespaces mnist.gmm --env test" in record and "force" not in record


@pytest.mark.slow
def test_a_picture_touched_is_read_again_but_nothing_is_made_of_it(fresh_project: Path, kedro: Run) -> None:
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (fresh_project / "pictures" / name).mkdir(parents=True)
        for number in range(60):
            pixels = noise.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(fresh_project / f"pictures/{name}/{number}.png")
    source = f"image_folder.source.path={fresh_project}/pictures,image_folder.source.size=8"
    command = (*TEST, "--pipelines", "ingest,preprocess", "--namespaces", "image_folder", "--params", source)
    kedro(fresh_project, *command)
    (fresh_project / "pictures/cat/7.png").touch()
    done = kedro(fresh_project, *command)
    assert ran(done) == {"image_folder.ingest"} and "unchanged: image_folder.split" in done.stderr
    Image.new("L", (8, 8), 9).save(fresh_project / "pictures/cat/7.png")
    assert ran(kedro(fresh_project, *command)) == {"image_folder.ingest", "image_folder.split"}


def test_a_killed_run_is_completed_by_the_next(
    finished_project: Path, fresh_project: Path, kedro: Run, start: Callable
) -> None:
    process = start(fresh_project, until="mnist.vae.fit")
    process.kill()
    process.wait()
    done = kedro(fresh_project, *TEST)
    assert "mnist.vae.fit" in ran(done) and not {"mnist.ingest", "mnist.split"} & ran(done)
    assert f"process {process.pid} since" in done.stderr and "is gone" in done.stderr
    repeatable = ("samples.safetensors", "metrics.json", "tensors.safetensors", "verdict.json", "baselines.json")
    first, second = files(finished_project), files(fresh_project)
    names = [name for name in first if name.endswith(repeatable)]
    assert len(names) >= 10 and all(first[name] == second[name] for name in names)


def test_what_workers_did_counts_as_done(project: Path, kedro: Run) -> None:
    command = (*TEST, "--pipeline", "train", "--params", "seed=1")
    done = kedro(project, *command, "--runner", "ParallelRunner")
    assert ran(done) == {f"mnist.{family}.{verb}" for family in ("gmm", "vae") for verb in ("fit", "plot_curves")}
    assert "nothing to do: all 4 nodes are up to date" in kedro(project, *command).stdout


def test_the_same_target_twice_and_another_beside_it(project: Path, kedro: Run, start: Callable) -> None:
    long = ("--pipeline", "train_vae", "--params", "vae.training.steps=1000000")
    process = start(project, *long, until="mnist.vae.fit")
    done = kedro(project, *TEST, *long, code=1)
    assert re.search(
        rf"Error: mnist\.vae is being worked on by process {process.pid} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d",
        done.stderr,
    )
    assert "wait for it or stop it" in done.stderr and "Traceback" not in done.stderr
    kedro(project, *TEST, "--pipeline", "train_gmm", "--params", "seed=1")
    assert process.poll() is None


@pytest.mark.slow
def test_two_families_side_by_side_both_succeed(project: Path, start: Callable) -> None:
    both = [start(project, "--pipeline", f"train_{family}", "--params", "seed=2") for family in ("gmm", "vae")]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "locked" not in said and "Traceback" not in said

"""Whole runs of the project, by the command that a user types."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient
from PIL import Image

from simulacra.models import FAMILIES

Run = Callable[..., subprocess.CompletedProcess[str]]
IMAGES = {name for name, facts in FAMILIES.items() if "image" in facts.kinds}
REPORTING = "data/test/08_reporting/mnist"
TEST = ("run", "--env", "test")


def tracked(project: Path) -> dict[str, list[MlflowRun]]:
    """All runs by name, newest first."""
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    experiment = client.get_experiment_by_name("simulacra")
    runs: dict[str, list[MlflowRun]] = {}
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"]):
        runs.setdefault(run.info.run_name, []).append(run)
    return runs


def artifacts(project: Path, run: MlflowRun, folder: str = "") -> set[str]:
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    found = set()
    for entry in client.list_artifacts(run.info.run_id, folder or None):
        found |= artifacts(project, run, entry.path) if entry.is_dir else {entry.path}
    return found


def files(project: Path) -> dict[str, bytes]:
    root = project / "data/test"
    paths = (path for path in root.glob("0*/**/*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def repeatable(content: dict[str, bytes]) -> dict[str, bytes]:
    """What two runs under one seed have in common: all that tells no time."""
    ends = ("samples.safetensors", "metrics.json", "tensors.safetensors", "verdict.json", "baselines.json")
    return {name: data for name, data in content.items() if name.endswith(ends)}


def copy_of(project: Path, place: Path) -> Path:
    """A finished project of one's own; its MLflow store is left behind, since it names places by absolute paths."""
    shutil.copytree(project, place, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
    return place


def test_the_run_prints_leaderboard_report_and_next_commands(whole_project: Path) -> None:
    log = (whole_project / "run.log").read_text()
    assert "real vs real (floor)" in log and "pure noise" in log
    assert f"{whole_project}/{REPORTING}/report.html" in log
    assert "mlflow ui --backend-store-uri sqlite:///data/test/mlflow.db" in log and "kedro viz run" in log
    assert "Warning" not in log and "Traceback" not in log


def test_leaderboard_has_floor_first_and_noise_last(whole_project: Path) -> None:
    table = pd.read_csv(whole_project / REPORTING / "leaderboard.csv")
    assert table["row"].iloc[0] == "floor" and table["row"].iloc[-1] == "noise"
    assert set(table["row"]) == {"floor", "train", *IMAGES, "noise"}
    floor, noise = table["fd_classifier"].iloc[0], table["fd_classifier"].iloc[-1]
    assert (table["fd_classifier"].iloc[1:-1] < noise).all() and noise > 5 * floor
    assert table["passport_id"].nunique() == 1


def test_report_is_one_file_that_asks_nothing_of_the_network(whole_project: Path) -> None:
    page = (whole_project / REPORTING / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert "kedro run --namespaces mnist.vae --env test" in page
    assert 'src="http' not in page and 'href="http' not in page and "@import" not in page


def test_latent_spaces_are_explored_shown_and_tracked(whole_project: Path) -> None:
    page = (whole_project / REPORTING / "report.html").read_text()
    assert 'id="latent"' in page
    for family in (name for name, facts in FAMILIES.items() if facts.latent):
        record = json.loads((whole_project / REPORTING / family / "exploration.json").read_text())
        (run,) = tracked(whole_project)[f"mnist.{family}"]
        assert {f"attribute_spearman.{name}" for name in ("slant", "thickness", "brightness")} <= set(record["metrics"])
        assert record["metrics"] == {key: run.data.metrics[key] for key in record["metrics"]}
        assert f'href="{family}/latent_map.html"' in page
        map_page = (whole_project / REPORTING / family / "latent_map.html").read_text()
        assert "plotly.js v" in map_page and "https://cdn" not in map_page.split("plotly.js v")[0]


def test_prompts_are_tried_shown_and_tracked(whole_project: Path) -> None:
    page = (whole_project / REPORTING / "report.html").read_text()
    assert 'id="prompts"' in page
    for family in (name for name, facts in FAMILIES.items() if facts.prompts):
        record = json.loads((whole_project / REPORTING / family / "prompt_fidelity.json").read_text())
        (run,) = tracked(whole_project)[f"mnist.{family}"]
        assert {"prompt_class_accuracy", "prompt_attribute_accuracy"} <= set(record["metrics"])
        assert record["metrics"] == {key: run.data.metrics[key] for key in record["metrics"]}
        assert f"08_reporting/mnist/{family}/prompts.png" in artifacts(whole_project, run)


def test_one_parent_and_one_child_a_family_with_the_same_metric_keys(finished_project: Path) -> None:
    runs = tracked(finished_project)
    (parent,), (gmm,), (vae,) = runs["mnist"], runs["mnist.gmm"], runs["mnist.vae"]
    assert {run.info.status for run in (parent, gmm, vae)} == {"FINISHED"}
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in (gmm, vae))
    common = {"fd_classifier", "kid_classifier", "is_classifier", "precision", "recall", "density", "coverage"}
    for run in (gmm, vae):
        assert common | {f"{key}_std" for key in common} <= set(run.data.metrics)
        assert {"train_seconds", "sample_ms", "parameters", "seconds/fit"} <= set(run.data.metrics)
        assert "passport_id" in run.data.tags and "augmentation" in run.data.tags
    assert "bits_per_dim" in gmm.data.metrics and "elbo_bits_per_dim" not in gmm.data.metrics
    assert "elbo_bits_per_dim" in vae.data.metrics and "bits_per_dim" not in vae.data.metrics
    assert vae.data.params["model.latent_dim"] == "4" and vae.data.params["training.steps"] == "30"
    assert parent.data.metrics["floor/fd_classifier"] < parent.data.metrics["noise/fd_classifier"]
    split = json.loads((finished_project / "data/test/05_model_input/mnist/split.json").read_text())["splits"]
    for run in (parent, gmm, vae):
        digests = {entry.dataset.digest for entry in run.inputs.dataset_inputs}
        assert digests == {part["fingerprint"][:32] for part in split.values()}
    client = MlflowClient(f"sqlite:///{finished_project}/data/test/mlflow.db")
    curve = client.get_metric_history(vae.info.run_id, "train/loss")
    assert [point.step for point in curve] == [10, 20, 30]


def test_every_saved_file_is_an_artifact(finished_project: Path) -> None:
    runs = tracked(finished_project)
    logged = {path for group in runs.values() for run in group for path in artifacts(finished_project, run)}
    assert set(files(finished_project)) <= logged
    resolved = MlflowClient(f"sqlite:///{finished_project}/data/test/mlflow.db").download_artifacts(
        runs["mnist"][0].info.run_id, "resolved_parameters.yml"
    )
    assert yaml.safe_load(Path(resolved).read_text())["mnist"]["vae"]["model"]["latent_dim"] == 4


def test_same_seed_same_bytes_another_seed_others(finished_project: Path, fresh_project: Path, kedro: Run) -> None:
    kedro(fresh_project, *TEST)
    first = repeatable(files(finished_project))
    assert len(first) >= 10 and repeatable(files(fresh_project)) == first
    kedro(fresh_project, *TEST, "--namespaces", "mnist.vae", "--params", "seed=1")
    third = files(fresh_project)
    for name in ("07_model_output/mnist/vae/samples.safetensors", "08_reporting/mnist/vae/metrics.json"):
        assert third[name] != first[name]
    assert all(third[name] == content for name, content in first.items() if "/vae/" not in name)


def test_one_family_alone_renews_itself_and_says_what_is_stale(
    finished_project: Path, tmp_path: Path, kedro: Run
) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    before = files(project)
    done = kedro(project, *TEST, "--namespaces", "mnist.gmm", "--params", "mnist.gmm.model.pca_dim=5")
    after = files(project)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed and all("/gmm/" in name for name in changed)
    assert "kedro run --pipeline report --namespaces mnist" in done.stdout
    (run,) = tracked(project)["mnist.gmm"]
    assert run.info.status == "FINISHED" and len(run.inputs.dataset_inputs) == 3
    assert "there is 1 run with families" in kedro(project, "compare", "--env", "test", code=1).stderr
    kedro(project, *TEST, "--pipeline", "report")
    assert (project / REPORTING / "leaderboard.csv").read_bytes() != before["08_reporting/mnist/leaderboard.csv"]
    kedro(project, *TEST, "--namespaces", "mnist.gmm", "--params", "mnist.gmm.model.pca_dim=6")
    compared = kedro(project, "compare", "--env", "test").stdout
    assert "mnist.gmm" in compared and "model.pca_dim" in compared and "FD (classifier)" in compared


def test_a_stage_alone(finished_project: Path, tmp_path: Path, kedro: Run) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    before = files(project)
    kedro(project, *TEST, "--pipeline", "evaluate", "--params", "force=true")
    assert {name for name, content in files(project).items() if content != before.get(name)} == set()


def test_what_is_asked_for_is_drawn_anew_and_nothing_else(fresh_project: Path, kedro: Run) -> None:
    (fresh_project / "conf/test/experiments.yml").write_text("mnist:\n  families: [diffusion]\n")
    kedro(fresh_project, *TEST, "--pipelines", "ingest,preprocess,train_diffusion,generate")
    place = "07_model_output/mnist/diffusion"
    before = files(fresh_project)
    assert sum(name.startswith(f"{place}/drawn/0000") for name in before) == 8
    with Image.open(io.BytesIO(before[f"{place}/film.gif"])) as film:
        assert film.n_frames == 6  # noise, and five steps
    generate = (*TEST, "--pipeline", "generate")
    assert "nothing to do" in kedro(fresh_project, *generate).stdout
    asked = "sampling.n=3,diffusion.sampling.classes=2 bar,diffusion.sampling.guidance=2,diffusion.sampling.steps=3"
    done = kedro(fresh_project, *generate, "--params", asked)
    after = files(fresh_project)
    assert f"Drawn: {fresh_project}/data/test/{place}/drawn" in done.stdout
    changed = {name.removeprefix(f"{place}/") for name in {*before, *after} if before.get(name) != after.get(name)}
    of_film = {"film.safetensors", "film.png", "film.gif"}
    own = {"drawn.safetensors", "drawn.png", "drawing.json", *of_film}
    assert {name for name in changed if not name.startswith("drawn/")} == own
    drawn = {name.removeprefix(f"{place}/drawn/") for name in after if name.startswith(f"{place}/drawn/")}
    assert drawn == {"00000_cross.png", "00001_bar.png", "00002_cross.png"}
    record = json.loads(after[f"{place}/drawing.json"])
    assert record["options"] == {
        "guidance": 2.0,
        "sampler": "sde_dpm_solver",
        "steps": 3,
        "spacing": "time",
        "eta": 0.0,
    }
    (run, *_) = tracked(fresh_project)["mnist.diffusion"]
    assert {f"{place}/{name}" for name in own} | {f"{place}/drawn/{name}" for name in drawn} <= artifacts(
        fresh_project, run
    )
    assert run.data.params["sampling.guidance"] == "2.0"


def test_a_failing_family_marks_its_own_child_only(finished_project: Path, tmp_path: Path, kedro: Run) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    before = files(project)
    diverging = "force=true,vae.training.learning_rate=1e30"
    done = kedro(project, *TEST, "--pipeline", "train", "--params", diverging, code=1)
    assert "training diverged by step" in done.stderr and "Lower training.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr
    runs = tracked(project)
    assert runs["mnist.vae"][0].info.status == "FAILED" and "diverged" in runs["mnist.vae"][0].data.tags["error"]
    assert runs["mnist.gmm"][0].info.status in ("FINISHED", "KILLED")
    assert runs["train"][0].info.status == "FAILED"
    untouched = {name for name in before if "/gmm/" not in name}
    assert all(files(project)[name] == before[name] for name in untouched)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipeline", "trian"], "unknown pipeline 'trian'; did you mean 'train'"),
        (["--namespaces", "mnits"], "unknown namespace 'mnits'; did you mean 'mnist'"),
        (["--params", "mnist.vae.model.latent_dims=3"], "mnist.vae.model.latent_dims: unknown parameter (got 3)"),
        (["--params", "mnist.vae.training.steps=many"], "mnist.vae.training.steps: Input should be a valid integer"),
        (
            ["--params", "mnist.vae.sampling.steps=3"],
            "mnist.vae.sampling: vae has no sampling.steps; it takes n, classes",
        ),
        (["--pipeline", "generate", "--params", "vae.sampling.classes=zebra"], "unknown class 'zebra'; vae knows bar,"),
        (["--params", "vea.model.width=3"], "unknown parameter 'vea'; did you mean 'vae'"),
        (["--params", "mnist.split.train=0.9"], "mnist.split: train + validation + test must be 1"),
        (["--params", "mnist.source.type=nmist"], "mnist.source: Input tag 'nmist'"),
        (["--params", "gmm.model.components=[0]"], "mnist.gmm.model.components.0: Input should be greater than 0"),
        (
            ["--params", "evaluation.extractors=resnet"],
            "mnist.evaluation.extractors.0: Input should be 'classifier', 'eff",
        ),
        (
            ["--params", "evaluation.extractors=inception"],
            "are not on this machine: set evaluation.inception.download=",
        ),
        (["--from-nodes", "mnist.splitt"], "nothing to run: Pipeline does not contain nodes named ['mnist.splitt']"),
        (["--tags", "nosuch"], "nothing to run: Pipeline contains no nodes"),
        (["--runner", "FooRunner"], "there is no runner 'FooRunner'"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_message(
    finished_project: Path, kedro: Run, arguments: list[str], message: str
) -> None:
    before = files(finished_project)
    done = kedro(finished_project, *TEST, *arguments, code=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr and "errors.pydantic.dev" not in done.stderr
    assert files(finished_project) == before


def test_a_stage_without_its_input_names_the_command_that_makes_it(fresh_project: Path, kedro: Run) -> None:
    done = kedro(fresh_project, *TEST, "--pipeline", "generate", code=1)
    assert "mnist.gmm.model is not there yet" in done.stderr
    assert "mnist.gmm.model is not there yet; make it: `kedro run --namespaces mnist --env test`" in done.stderr
    done = kedro(fresh_project, *TEST, "--pipeline", "preprocess", code=1)
    assert "make it: `kedro run --pipeline ingest --namespaces mnist --env test`" in done.stderr
    assert not (fresh_project / "data/test/mlflow.db").exists()


def test_one_family_alone_of_a_fresh_project_makes_what_it_needs(fresh_project: Path, kedro: Run) -> None:
    done = kedro(fresh_project, *TEST, "--namespaces", "mnist.gmm")
    assert "mnist.ingest" in done.stderr + done.stdout
    assert (fresh_project / REPORTING / "gmm/summary.json").is_file()
    assert not (fresh_project / "data/test/06_models/mnist/vae").exists()
    assert "kedro run --pipeline report --namespaces mnist" in done.stdout


def test_a_damaged_file_is_refused_by_name(finished_project: Path, tmp_path: Path, kedro: Run) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    victim = project / "data/test/05_model_input/mnist/train.safetensors"
    victim.write_bytes(victim.read_bytes()[:1000])
    done = kedro(project, *TEST, "--pipeline", "train_gmm", code=1)
    assert str(victim) in done.stderr and "damaged" in done.stderr and "Traceback" not in done.stderr
    assert "again: `kedro run --pipeline preprocess --namespaces mnist --env test`" in done.stderr


def test_an_unreachable_tracking_server_costs_a_warning(finished_project: Path, tmp_path: Path, kedro: Run) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    command = (*TEST, "--pipeline", "train_gmm", "--params", "force=true")
    done = kedro(project, *command, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "MLflow tracking is off for the rest of this run" in done.stderr


def test_people_are_asked_and_what_they_say_is_in_leaderboard_report_and_mlflow(
    finished_project: Path, tmp_path: Path, kedro: Run
) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    page = project / REPORTING / "human_study.html"
    assert f"Page for raters: {page}" in kedro(project, *TEST, "--pipeline", "human_study").stdout
    key = json.loads((project / "data/test/07_model_output/mnist/human_key.json").read_text())
    assert set(key["models"]) == {"gmm", "vae"} and len(key["trials"]) == 40 and page.stat().st_size > 10_000

    place = project / "data/test/01_raw/mnist/human_answers"
    place.mkdir()
    for rater in ("ann", "bob"):
        rows = ["study,rater,trial,answer,milliseconds"]
        for name, trial in key["trials"].items():
            shown = [each["source"] for each in trial["shown"]]
            said = "left" if len(shown) > 1 else ("real", "generated")[shown == ["gmm"]]
            rows.append(f"{key['study']},{rater},{name},{trial['expected'] or said},900")
        (place / f"{rater}.csv").write_text("\n".join(rows))
    kedro(project, *TEST, "--pipeline", "human_results")
    table = pd.read_csv(project / REPORTING / "leaderboard.csv").set_index("row")
    assert table.loc["gmm", "human_error_rate"] == 0 and table.loc["vae", "human_error_rate"] == 1
    report = (project / REPORTING / "report.html").read_text()
    assert (
        'id="people"' in report
        and "2 raters gave the" in report
        and "Most often taken for real are images of vae" in report
    )
    (run,) = tracked(project)["mnist.vae"]
    assert run.data.metrics["human_error_rate"] == 1 and run.data.metrics["human_error_rate_low"] < 1
    assert "08_reporting/mnist/vae/human.json" in artifacts(project, run)
    assert tracked(project)["human_results"][0].data.metrics["human/alpha_real_or_fake"] == 1


TOY = '''"""A family for a test: it remembers the mean image."""

import numpy as np

from simulacra.data.image_set import ImageSet
from simulacra.models.base import ImageModel, ModelConfig
from simulacra.training.history import History
from pydantic import Field


class ToyConfig(ModelConfig):
    """One knob."""

    noise: float = Field(1.0, ge=0, description="grey levels of noise")


class Toy(ImageModel):
    """Mean image and noise."""

    name = "toy"
    Config = ToyConfig

    def fit(self, train, *, validation=None, training, seed=0, checkpoints=None, callbacks=()):
        """Remember the mean."""
        self.remember(train)
        self.mean = train.images.mean(0) + np.random.default_rng(seed).random()
        for callback in callbacks:
            callback(1, "train", {"loss": 0.0})
        history = History()
        history.add(1, "train", {"loss": 0.0})
        return history

    def sample(self, n, *, condition=None, seed):
        """Add noise to the mean."""
        self.choose_classes(n, condition, np.random.default_rng(seed))
        noise = np.random.default_rng(seed).normal(0, self.config.noise, (n, *self.shape))
        return ImageSet(np.clip(self.mean + noise, 0, 255).astype(np.uint8))

    def tensors(self):
        """Return the mean."""
        return {"mean": self.mean}

    def restore(self, tensors):
        """Take the mean back."""
        self.mean = tensors["mean"]
'''


def test_a_new_family_is_one_file_one_line_and_one_yaml(fresh_project: Path, kedro: Run) -> None:
    (fresh_project / "src/simulacra/models/toy.py").write_text(TOY)
    registry = fresh_project / "src/simulacra/models/__init__.py"
    line = '    "toy": Family("Toy", frozenset({"image"})),\n}\n'
    registry.write_text(registry.read_text().replace("\n}\n", "\n" + line, 1))
    (fresh_project / "conf/base/parameters/toy.yml").write_text("toy:\n  model:\n    noise: 2.0\n")
    (fresh_project / "conf/test/experiments.yml").write_text("mnist:\n  families: [gmm, toy, vae]\n")

    kedro(fresh_project, *TEST, "--pipelines", "ingest,preprocess")
    kedro(fresh_project, *TEST, "--pipeline", "train_toy")
    kedro(fresh_project, *TEST)
    table = pd.read_csv(fresh_project / REPORTING / "leaderboard.csv")
    assert set(table["row"]) == {"floor", "train", "gmm", "toy", "vae", "noise"}
    assert tracked(fresh_project)["mnist.toy"][0].info.status == "FINISHED"
    verdict = json.loads((fresh_project / REPORTING / "toy/verdict.json").read_text())
    assert verdict["verdict"] == "not applicable" and "not class-conditional" in verdict["reason"]
    described = kedro(fresh_project, "registry", "describe", "train_toy").stdout
    assert "mnist.toy.fit" in described

    shutil.copytree(Path(__file__).parent / "models", fresh_project / "tests/models")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/models/test_contract.py", "-k", "toy", "-p", "no:cacheprovider"],
        cwd=fresh_project,
        env={"PYTHONPATH": str(fresh_project / "src"), "PATH": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]


def test_an_unlabelled_folder_of_pictures(fresh_project: Path, kedro: Run) -> None:
    from PIL import Image

    from simulacra.data.fabricate import fabricate_images

    (fresh_project / "conf/test/experiments.yml").unlink()  # all families, then
    folder = fresh_project / "pictures"
    folder.mkdir()
    pictures = fabricate_images(n=150, size=14, channels=3, n_classes=2, seed=0)
    for number, picture in enumerate(pictures.images):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{number}.{('png', 'jpg')[number % 2]}")
    source = f"image_folder.source.path={folder},image_folder.source.size=12"
    kedro(fresh_project, *TEST, "--namespaces", "image_folder", "--params", source)
    root = fresh_project / "data/test/08_reporting/image_folder"
    table = pd.read_csv(root / "leaderboard.csv")
    assert set(table["row"]) == {"floor", "train", *IMAGES, "noise"} and "is_classifier" not in table
    assert json.loads((root / "vae/verdict.json").read_text())["verdict"] == "not applicable"


def test_a_bad_folder_of_pictures_leaves_earlier_results_alone(fresh_project: Path, kedro: Run) -> None:
    from PIL import Image

    root = fresh_project / "pictures"
    for shade, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(60):
            Image.new("L", (16, 16), 4 * number + shade).save(root / name / f"{number}.png")
    source = f"image_folder.source.path={root},image_folder.source.size=8"
    command = (*TEST, "--pipelines", "ingest,preprocess", "--namespaces", "image_folder", "--params", source)
    kedro(fresh_project, *command)
    before = files(fresh_project)
    (root / "dog/3.png").write_bytes((root / "dog/3.png").read_bytes()[:50])
    done = kedro(fresh_project, *command, code=1)
    assert "3.png" in done.stderr and "Traceback" not in done.stderr
    assert files(fresh_project) == before
    runs = tracked(fresh_project)["ingest preprocess"]
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED"]
    assert "3.png" in runs[0].data.tags["error"]


def test_mistakes_in_files_end_in_one_message(fresh_project: Path, kedro: Run) -> None:
    file = fresh_project / "conf/base/parameters/vae.yml"
    file.write_text("vae:\n  model: {beta: 1\n  training:\n")
    done = kedro(fresh_project, *TEST, code=1)
    assert "configuration cannot be read" in done.stderr and "Traceback" not in done.stderr
    done = kedro(fresh_project, "run", "--env", "nosuch", code=1)
    assert "Traceback" not in done.stderr
    file.write_text("vae: {}\n")
    (fresh_project / "conf/base/parameters/gmm.yml").write_text("gmm:\n  training:\n")
    done = kedro(fresh_project, *TEST, "--pipeline", "ingest", code=1)
    assert "gmm.training must be a block of keys" in done.stderr and "Traceback" not in done.stderr
    (fresh_project / "conf/base/parameters/gmm.yml").write_text("gmm: {}\n")
    (fresh_project / "conf/test/mlflow.yml").write_text("experimnt: mine\n")
    done = kedro(fresh_project, *TEST, "--pipeline", "ingest", code=1)
    assert "mlflow.yml: experimnt: Extra inputs are not permitted" in done.stderr and "Traceback" not in done.stderr


def test_threads_and_processes_make_the_same_bytes(finished_project: Path, fresh_project: Path, kedro: Run) -> None:
    kedro(fresh_project, *TEST, "--runner", "ThreadRunner")
    assert repeatable(files(fresh_project)) == repeatable(files(finished_project))
    assert {runs[0].info.status for runs in tracked(fresh_project).values()} == {"FINISHED"}
    done = kedro(fresh_project, *TEST, "--runner", "ParallelRunner", "--params", "force=true")
    assert repeatable(files(fresh_project)) == repeatable(files(finished_project)), done.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_a_checkpoint_from_which_it_goes_on(
    finished_project: Path, tmp_path: Path, kedro: Run, signum: int, code: int
) -> None:
    project = copy_of(finished_project, tmp_path / "p")
    long = ["--pipeline", "train_vae", "--params", "vae.training.steps=1000000,vae.training.checkpoint_steps=10"]
    command = [sys.executable, "-m", "kedro", *TEST, *long]
    checkpoints = project / "data/test/06_models/mnist/vae/checkpoints"
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list(checkpoints.glob("step-*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signum)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == code and "Interrupted" in rest and "Traceback" not in rest
    runs = tracked(project)
    assert runs["mnist.vae"][0].info.status == runs["train_vae"][0].info.status == "KILLED"
    last = int(max(checkpoints.glob("step-*")).name.removeprefix("step-"))
    done = kedro(project, *TEST, *long[:-1], f"{long[-1]},vae.training.learning_rate=1.0", code=1)
    assert "training.learning_rate: 0.002 then, 1.0 now" in done.stderr and "Traceback" not in done.stderr
    assert max(checkpoints.glob("step-*")).name == f"step-{last:09d}"

"""A whole run on texts, by the command that a user types."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

Run = Callable[..., subprocess.CompletedProcess[str]]
TEST = ("run", "--env", "test", "--namespaces", "pydoc")


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    copied: Callable[[Path], Path],
    kedro: Run,
    plainly_installed: dict[str, str],
) -> Path:
    place = copied(tmp_path_factory.mktemp("texts"))
    done = kedro(place, *TEST, **plainly_installed)
    (place / "run.log").write_text(done.stdout + done.stderr)
    return place


def reporting(project: Path, name: str) -> Path:
    return project / "data/test/08_reporting/pydoc" / name


def test_the_leaderboard_ranks_by_bits_a_byte(project: Path) -> None:
    table = pd.read_csv(reporting(project, "leaderboard.csv")).set_index("row")
    assert list(table.index) == ["floor", "gpt", "noise"] and table.loc["noise", "bits_per_byte"] == 8
    assert table.loc["gpt", "rank"] == 1
    assert 0 < table.loc["gpt", "bits_per_byte"] < 8 < table.loc["gpt", "perplexity"]
    log = (project / "run.log").read_text()
    assert "Bits/byte" in log and "Warning" not in log and "Traceback" not in log


def test_a_family_that_needs_an_extra_says_so_before_the_run(
    project: Path, kedro: Run, plainly_installed: dict[str, str]
) -> None:
    for asked in (("--namespaces", "tinyshakespeare.pretrained"), ("--pipeline", "train_pretrained")):
        done = kedro(project, "run", *asked, code=1, **plainly_installed)
        said = done.stdout + done.stderr
        assert "family pretrained needs transformers and peft" in said and '-e ".[text]"' in said
        assert "Traceback" not in said


def test_your_own_texts_need_no_extra_and_are_told_what_one_would_bring(
    project: Path, tmp_path: Path, kedro: Run, plainly_installed: dict[str, str]
) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(f"Letter {number}: we are well and hope that you are too.\n" * 8)
    source = f"text_files.source.path={tmp_path},gpt.training.steps=5,gpt.model.tokenizer=byte"
    done = kedro(project, "run", "--env", "test", "--namespaces", "text_files", "--params", source, **plainly_installed)
    assert "text_files goes without pretrained" in done.stdout + done.stderr
    table = pd.read_csv(project / "data/test/08_reporting/text_files/leaderboard.csv")
    assert list(table["row"]) == ["floor", "gpt", "noise"]


def test_the_report_shows_texts_beside_training_passages(project: Path) -> None:
    page = reporting(project, "report.html").read_text()
    (first, *_), *_ = json.loads((project / "data/test/07_model_output/pydoc/gpt/texts.json").read_text())
    assert 'class="passages"' in page and "words in a row in common with the training set" in page and first
    assert "Real images" not in page and 'src="http' not in page


def test_mlflow_has_curves_metrics_and_files(project: Path) -> None:
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    experiment = client.get_experiment_by_name("simulacra")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    child = runs["pydoc.gpt"]
    assert {"bits_per_byte", "perplexity", "train_seconds", "sample_ms", "parameters"} <= set(child.data.metrics)
    assert [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")] == [10, 20, 30]
    assert child.data.params["model.context"] == "16" and runs["pydoc"].info.status == "FINISHED"


def test_a_second_run_does_nothing_and_a_prompt_draws_anew(project: Path, kedro: Run) -> None:
    assert "nothing to do" in kedro(project, *TEST).stdout
    metrics = reporting(project, "gpt/metrics.json").read_bytes()
    asked = "pydoc.gpt.sampling.prompt=The if,pydoc.gpt.sampling.n=2,pydoc.gpt.sampling.temperature=0"
    kedro(project, "run", "--env", "test", "--pipeline", "generate", "--namespaces", "pydoc", "--params", asked)
    drawn = (project / "data/test/07_model_output/pydoc/gpt/drawn.txt").read_text()
    first, second = (part.partition("---\n")[2] for part in drawn.split("--- ")[1:])
    assert first.strip() == second.strip() and first.startswith("The if")
    assert reporting(project, "gpt/metrics.json").read_bytes() == metrics


def test_a_pretrained_model_is_fine_tuned_beside_gpt(
    project: Path, kedro: Run, tmp_path: Path, tiny_gpt2: Path
) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(
            f"The cat number {number} sat on the mat, and a dog ran after it.\n" * 20
        )
    said = f"text_files.source.path={tmp_path},pretrained.model.source={tiny_gpt2}"
    done = kedro(project, "run", "--env", "test", "--namespaces", "text_files", "--params", said)
    assert "Traceback" not in done.stdout + done.stderr and "Warning" not in done.stdout + done.stderr
    table = pd.read_csv(project / "data/test/08_reporting/text_files/leaderboard.csv").set_index("row")
    assert set(table.index) == {"floor", "gpt", "pretrained", "noise"} and set(table["rank"].dropna()) == {1, 2}
    assert (table.loc[["gpt", "pretrained"], "bits_per_byte"] > 0).all()
    weights = project / "data/test/06_models/text_files/pretrained/model/tensors.safetensors"
    assert 0 < weights.stat().st_size < (tiny_gpt2 / "model.safetensors").stat().st_size
    refused = kedro(
        project, "run", "--env", "test", "--pipeline", "train_pretrained", "--namespaces", "text_files",
        "--params", f"text_files.source.path={tmp_path},pretrained.model.source=/no/such", code=1,
    )  # fmt: skip
    assert "there is no folder /no/such" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"abc\xff" * 900, "no UTF-8 at byte 3"), (b"a\0b", "NUL at byte 1"), (b"a b c\n", "add text")],
)
def test_bad_texts_end_in_one_message(project: Path, kedro: Run, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    said = f"text_files.source.path={tmp_path / 'bad.txt'}"
    done = kedro(project, "run", "--env", "test", "--namespaces", "text_files", "--params", said, code=1)
    assert message in done.stderr + done.stdout and "Traceback" not in done.stderr + done.stdout

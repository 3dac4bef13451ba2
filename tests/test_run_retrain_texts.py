"""Retraining on texts, by the commands that a user types."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

Run = Callable[..., subprocess.CompletedProcess[str]]
REPORTING = "data/test/08_reporting/text_files"
WORDS = ("the", "old", "ship", "sailed", "slowly", "past", "grey", "rocks", "while", "gulls", "cried", "over", "waves")


def write(folder: Path, first: int, last: int, *, shout: bool = False) -> None:
    """Put documents into a folder, one a file, which hang on their number alone."""
    folder.mkdir(exist_ok=True)
    for number in range(first, last):
        rng = np.random.default_rng(number)
        text = ". ".join(" ".join(rng.choice(WORDS, 8)) for _ in range(int(rng.integers(4, 9))))
        (folder / f"{number:04d}.txt").write_text((text.upper() if shout else text) + ".\n")


def said(project: Path, more: str = "") -> tuple[str, ...]:
    source = f"text_files.source.path={project / 'letters'},text_files.split.by=content"
    small = "retraining.families=gpt,gpt.model.tokenizer=byte,gpt.training.steps=250,language.n_seeds=3"
    return "--namespaces", "text_files", "--params", f"{source},{small}{more}"


def retrain(kedro: Run, project: Path, more: str = "", *, code: int = 0) -> subprocess.CompletedProcess[str]:
    return kedro(project, "run", "--env", "test", "--pipeline", "retrain", *said(project, more), code=code)


def record(project: Path, name: str) -> dict:
    return json.loads((project / REPORTING / name).read_text())


def aliases(project: Path) -> dict[str, str]:
    uri = f"sqlite:///{project}/data/test/mlflow.db"
    found = MlflowClient(uri, uri).get_registered_model("simulacra.text_files").aliases
    return {alias: str(version) for alias, version in found.items()}


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory, copied: Callable[[Path], Path], kedro: Run) -> tuple[Path, str]:
    """A project with a first champion, and what was printed on the way."""
    project = copied(tmp_path_factory.mktemp("retrained"))
    write(project / "letters", 0, 60)
    done = retrain(kedro, project)
    return project, done.stdout + done.stderr


def test_the_first_champion_needs_only_be_better_than_guessed_bytes(retrained: tuple[Path, str]) -> None:
    project, printed = retrained
    assert "gpt becomes the first champion" in printed and "Warning" not in printed and "WARNING" not in printed
    assert aliases(project) == {"champion": "1"} and record(project, "champion.json") == {}
    checks = pd.read_csv(project / REPORTING / "gate.csv").set_index("check")
    assert checks.loc["improvement", "champion"] == 8 and checks.loc["improvement", "metric"] == "bits_per_byte"
    assert checks["passed"].all()
    assert "Version 1, gpt, is champion since" in (project / REPORTING / "operations.html").read_text()


def test_without_news_nothing_is_trained(retrained: tuple[Path, str], kedro: Run) -> None:
    project, _ = retrained
    done = retrain(kedro, project)
    assert "Nothing to train on text_files: data and parameters are those that the champion was made" in done.stdout
    assert "text_files.gpt.fit" not in done.stderr and aliases(project) == {"champion": "1"}


def test_other_texts_are_told_and_a_challenger_that_foretells_them_better_takes_over(
    retrained: tuple[Path, str], kedro: Run
) -> None:
    project, _ = retrained
    write(project / "letters", 0, 5, shout=True)
    write(project / "letters", 60, 120, shout=True)
    done = retrain(kedro, project)
    decision, gate, champion = (record(project, f"{name}.json") for name in ("retrain_decision", "gate", "champion"))
    reasons = {reason["reason"]: reason for reason in decision["looked_at"]}
    assert reasons["new data"]["retrain"] and reasons["drift"]["retrain"] and reasons["decay"]["retrain"]
    assert "capitals" in decision["drift"]["moved"] and decision["drift"]["fresh"] == 65
    assert "the champion's Bits/byte was" in decision["sentence"]
    challenger = record(project, "gpt/challenger.json")
    assert champion["version"] == 1 and champion["passport_id"] == challenger["record"]["passport_id"]
    assert challenger["verdict"] is None and champion["model_sha256"] != challenger["model_sha256"]
    assert "documents that the champion was fitted to are gone, or not as they were" in gate["sentence"]
    assert gate["winner"] == "gpt" and "gpt takes over from champion (gpt, version 1)" in done.stdout
    assert aliases(project) == {"champion": "2", "previous": "1"}
    page = (project / REPORTING / "operations.html").read_text()
    assert "Version 2, gpt, is champion" in page and "Bits/byte" in page


def test_the_champion_may_be_put_back_and_writes_what_its_family_is_asked_for(
    retrained: tuple[Path, str], kedro: Run
) -> None:
    project, _ = retrained
    kedro(project, "champion", "--env", "test", "--dataset", "text_files", "rollback")
    asked = ("--params", "model=@champion,text_files.gpt.sampling.n=2,text_files.gpt.sampling.prompt=the old")
    kedro(project, "run", "--env", "test", "--pipeline", "generate", "--namespaces", "text_files", *asked)
    place = project / "data/test/07_model_output/text_files/champion"
    drawn = json.loads((place / "drawn.json").read_text())
    number = int(aliases(project)["champion"])
    assert drawn["version"] == number and drawn["n"] == 2 and drawn["family"] == "gpt"
    assert (place / "drawn.txt").read_text().startswith("--- 0 ---\nthe old") and len(drawn["texts"]) == 2


@pytest.mark.slow
def test_so_few_documents_that_they_would_be_cut_are_refused(retrained: tuple[Path, str], kedro: Run) -> None:
    project, _ = retrained
    write(project / "few", 0, 3)
    done = retrain(kedro, project, f",text_files.source.path={project / 'few'}", code=1)
    assert "3 documents are too few to be dealt by content" in done.stderr and "Traceback" not in done.stderr
    assert "source.separator" in done.stderr


@pytest.mark.slow
def test_a_tick_of_the_schedule_retrains_on_texts(tmp_path: Path, copied: Callable[[Path], Path], kedro: Run) -> None:
    project = copied(tmp_path)
    write(project / "letters", 0, 40)
    own = {
        "source": {"type": "text_files", "path": str(project / "letters")},
        "split": {"by": "content"},
        "retraining": {"families": ["gpt"]},
    }
    with (project / "conf/test/parameters.yml").open("a") as parameters:
        parameters.write(f"\ntext_files: {json.dumps(own)}\n")
    done = kedro(project, "schedule", "run-now", "--env", "test", "text_files")
    assert aliases(project) == {"champion": "1"} and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_champion_that_saw_todays_test_documents_is_not_judged(
    tmp_path: Path, copied: Callable[[Path], Path], kedro: Run
) -> None:
    project = copied(tmp_path)
    write(project / "letters", 0, 40)
    retrain(kedro, project)
    done = retrain(kedro, project, ",text_files.split.seed=1", code=1)
    assert "test documents, so that nothing can be said of it" in done.stderr and "Traceback" not in done.stderr
    assert aliases(project) == {"champion": "1"}


@pytest.mark.slow
def test_a_champion_that_does_not_know_todays_characters_stands_aside(
    tmp_path: Path, copied: Callable[[Path], Path], kedro: Run
) -> None:
    project, characters = copied(tmp_path), ",gpt.model.tokenizer=character"
    write(project / "letters", 0, 40)
    retrain(kedro, project, characters)
    write(project / "letters", 40, 80, shout=True)
    done = retrain(kedro, project, characters)
    assert "version 1, gpt, stands aside: today's test texts have characters" in " ".join(done.stderr.split())
    assert aliases(project) == {"champion": "2", "previous": "1"}

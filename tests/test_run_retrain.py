"""Retraining, by the commands that a user types."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient

Run = Callable[..., subprocess.CompletedProcess[str]]
RETRAIN = ("run", "--env", "test", "--pipeline", "retrain", "--params")
WHAT = "mnist.split.by=content,generation.n_seeds=3"
POOR = f"{WHAT},retraining.families=vae,retraining.gate.refusing_flags=diverges"
"""So short a training of a VAE collapses, which a sentinel would else refuse."""
BETTER = f"{WHAT},retraining.families=gmm,mnist.source.n=420"
REPORTING = "data/test/08_reporting/mnist"


def record(project: Path, name: str) -> dict:
    return json.loads((project / REPORTING / name).read_text())


def aliases(project: Path) -> dict[str, str]:
    found = client(project).get_registered_model("simulacra.mnist").aliases
    return {alias: str(version) for alias, version in found.items()}


def client(project: Path) -> MlflowClient:
    uri = f"sqlite:///{project}/data/test/mlflow.db"
    return MlflowClient(uri, uri)


def parents(project: Path) -> dict[str, MlflowRun]:
    experiment = client(project).get_experiment_by_name("simulacra")
    found = client(project).search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return {run.info.run_name: run for run in found if "mlflow.parentRunId" not in run.data.tags}


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory, copied: Callable[[Path], Path], kedro: Run) -> tuple[Path, str]:
    """A project with a first champion, and what was printed on the way."""
    project = copied(tmp_path_factory.mktemp("retrained"))
    done = kedro(project, *RETRAIN, POOR)
    return project, done.stdout + done.stderr


def test_the_first_champion_needs_only_be_better_than_noise(retrained: tuple[Path, str]) -> None:
    project, said = retrained
    assert "vae becomes the first champion" in said and "Warning" not in said and "WARNING" not in said
    assert aliases(project) == {"champion": "1"}
    decision, gate = record(project, "retrain_decision.json"), record(project, "gate.json")
    assert decision["retrain"] and decision["families"] == ["vae"] and decision["champion"] is None
    assert gate["winner"] == "vae" and gate["champion"] is None and record(project, "champion.json") == {}
    assert set(pd.read_csv(project / REPORTING / "gate.csv")["check"]) >= {"passport", "improvement", "sentinels"}
    promotion = record(project, "vae/promotion.json")
    assert promotion["version"] == 1 and promotion["champion"] is True
    page = (project / REPORTING / "operations.html").read_text()
    assert "Version 1, vae, is champion since" in page and "vae becomes the first champion" in page


def test_all_its_runs_have_one_parent_with_the_decision_among_its_files(retrained: tuple[Path, str]) -> None:
    project, _ = retrained
    (name,) = [name for name in parents(project) if re.match(r"mnist retrain \d", name)]
    run = parents(project)[name]
    children = client(project).search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    assert sorted(child.info.run_name for child in children) == ["mnist.vae", "register mnist.vae"]
    assert {run.info.status, *(child.info.status for child in children)} == {"FINISHED"}
    assert list(parents(project)) == [name], "nothing stands beside it"
    files = {file.path for file in client(project).list_artifacts(run.info.run_id, "08_reporting/mnist")}
    assert {f"08_reporting/mnist/{name}" for name in ("gate.csv", "gate.json", "retrain_decision.json")} <= files


def test_without_news_nothing_is_trained(retrained: tuple[Path, str], kedro: Run) -> None:
    project, _ = retrained
    done = kedro(project, *RETRAIN, POOR)
    assert "Nothing to train on mnist: data and parameters are those that the champion was made from" in done.stdout
    assert "mnist.vae.fit" not in done.stderr and aliases(project) == {"champion": "1"}
    assert "in 1 of them there was no need to train" in (project / REPORTING / "operations.html").read_text()


@pytest.mark.slow
def test_a_collapsed_challenger_is_refused(fresh_project: Path, kedro: Run) -> None:
    done = kedro(fresh_project, *RETRAIN, f"{WHAT},retraining.families=vae")
    assert "No model becomes champion. vae:" in done.stdout and "samples keep to a few" in done.stdout
    assert record(fresh_project, "gate.json")["winner"] is None
    done = kedro(fresh_project, *RETRAIN, f"{WHAT},retraining.families=vae")
    assert "Nothing to train on mnist: the same was tried on 20" in done.stdout and "no model took over" in done.stdout
    done = kedro(fresh_project, "champion", "--env", "test", "show", code=1)
    assert "has no champion yet" in done.stderr


def test_new_data_bring_a_challenger_which_the_gate_compares_on_the_same_data(
    retrained: tuple[Path, str], kedro: Run
) -> None:
    project, _ = retrained
    done = kedro(project, *RETRAIN, f"{BETTER},retraining.dry_run=true")
    gate, champion = record(project, "gate.json"), record(project, "champion.json")
    challenger = record(project, "gmm/challenger.json")
    assert "This is a dry run: nothing changes." in done.stdout and aliases(project) == {"champion": "1"}
    assert gate["champion"] == "champion (vae, version 1)" and champion["version"] == 1
    assert champion["passport_id"] == challenger["record"]["passport_id"]
    assert champion["model_sha256"] != challenger["model_sha256"]
    checks = {check["check"] for each in gate["challengers"] for check in each["checks"]}
    assert {"passport", "finite", "improvement", "sentinels", "downstream"} <= checks
    assert "% of the data are new" in record(project, "retrain_decision.json")["sentence"]


def test_a_better_challenger_waits_to_be_promoted_and_the_old_champion_may_be_put_back(
    retrained: tuple[Path, str], kedro: Run
) -> None:
    project, _ = retrained
    done = kedro(project, *RETRAIN, f"{BETTER},retraining.promote=false")
    assert "gmm takes over from champion (vae, version 1)" in done.stdout
    assert aliases(project) == {"champion": "1", "challenger": "2"}
    tags = client(project).get_model_version("simulacra.mnist", "2").tags
    assert record(project, "gmm/promotion.json")["champion"] is False and tags["tick"] in parents(project)
    done = kedro(project, "champion", "--env", "test", "promote", "2")
    assert "is version 2, gmm; it was version 1, vae" in done.stdout
    assert aliases(project) == {"champion": "2", "previous": "1"}
    done = kedro(project, "champion", "--env", "test", "rollback")
    assert "is version 1, vae, again" in done.stdout and aliases(project)["champion"] == "1"
    done = kedro(project, *RETRAIN, BETTER)
    assert "gmm was champion before, and comes back by `kedro champion rollback` only." in done.stdout
    assert aliases(project)["champion"] == "1"


def test_the_champion_draws_from_the_registry_what_its_family_is_asked_for(
    retrained: tuple[Path, str], kedro: Run
) -> None:
    project, _ = retrained
    asked = "model=@champion,vae.sampling.n=3,vae.sampling.classes=1,vae.sampling.seed=5"
    kedro(project, "run", "--env", "test", "--pipeline", "generate", "--params", asked)
    place = project / "data/test/07_model_output/mnist/champion"
    drawn = json.loads((place / "drawn.json").read_text())
    assert drawn["version"] == 1 and drawn["family"] == "vae" and drawn["n"] == 3 and drawn["seed"] == 5
    assert len(list((place / "drawn").glob("*.png"))) == 3
    done = kedro(project, "run", "--env", "test", "--params", "model=@previous", code=1)
    assert "goes with --pipeline generate alone, and is @champion" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--pipeline", "retrain", "--namespaces", "mnist.gmm"),
            "retrain is for whole datasets; use --namespaces mnist",
        ),
        (("--pipelines", "retrain,report"), "ask for nothing beside it"),
        (
            ("--pipeline", "retrain", "--namespaces", "pydoc", "--params", "pydoc.retraining.families=vae"),
            "unknown retraining.families 'vae'",
        ),
        (("--pipeline", "retrain", "--params", f"{WHAT},retraining.families=pixel"), "there is no family 'pixel'"),
        (
            ("--pipeline", "retrain", "--params", f"{WHAT},retraining.families=flow,mnist.source.n=420"),
            "unknown retraining.families 'flow'",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(
    retrained: tuple[Path, str], kedro: Run, arguments: tuple[str, ...], message: str
) -> None:
    project, _ = retrained
    before = aliases(project)
    done = kedro(project, "run", "--env", "test", *arguments, code=1)
    assert message in done.stderr and "Traceback" not in done.stderr and aliases(project) == before


@pytest.mark.slow
def test_a_champion_that_saw_todays_test_images_is_not_judged(fresh_project: Path, kedro: Run, tmp_path: Path) -> None:
    by_order = "retraining.families=gmm"
    kedro(fresh_project, *RETRAIN, by_order)
    done = kedro(fresh_project, *RETRAIN, f"{by_order},mnist.split.seed=1", code=1)
    assert re.search(r"the champion was trained on \d+ of today's 60 test images", done.stderr)
    assert "Traceback" not in done.stderr and "set split.by to content" in done.stderr
    assert aliases(fresh_project) == {"champion": "1"}


@pytest.mark.slow
def test_a_training_begins_from_the_champion_where_that_is_asked_for(fresh_project: Path, kedro: Run) -> None:
    asked = f"{POOR},retraining.start=champion"
    place = fresh_project / "data/test/06_models/mnist/vae/training.json"
    kedro(fresh_project, *RETRAIN, asked)
    assert "begun_from_version" not in json.loads(place.read_text())
    kedro(fresh_project, *RETRAIN, f"{asked},mnist.source.n=420")
    assert json.loads(place.read_text())["begun_from_version"] == 1


@pytest.mark.slow
def test_a_step_that_was_killed_at_its_very_end_looks_and_decides_no_second_time(
    fresh_project: Path, kedro: Run
) -> None:
    kedro(fresh_project, *RETRAIN, POOR)
    tick = {"SIMULACRA_PARENT_RUN": "a tick"}
    kedro(fresh_project, "run", "--env", "test", "--pipelines", "ingest,preprocess,watch", "--params", BETTER, **tick)
    for _ in range(2):
        done = kedro(fresh_project, *RETRAIN, BETTER, **tick)
        assert "Train gmm on mnist anew" in done.stdout
        assert "gmm takes over from champion (vae, version 1)" in done.stdout
        assert aliases(fresh_project) == {"champion": "2", "previous": "1"}
    (look,) = [each for each in record(fresh_project, "watch_log.json") if each["key"] == "a tick"]
    (decision,) = [each for each in record(fresh_project, "gate_log.json") if each["key"] == "a tick"]
    assert look["retrain"] and decision["winner"] == "gmm" and look["at"] < decision["decided_at"]
    assert record(fresh_project, "gmm/promotion.json")["champion"] is True

"""Runs beside each other, in a real store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.tracking import MlflowClient
from rich.console import Console
from scipy.stats import ttest_ind

from simulacra.errors import SimulacraError
from simulacra.tracking.comparison import Comparison, compare, compare_groups, read_runs, tables

FIRST, SECOND = [10.0, 11.0, 12.0], [7.0, 7.5, 8.0]


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("here")
    return client


def record(values: dict[str, list[float]]) -> dict[str, float]:
    means = {key: float(np.mean(each)) for key, each in values.items()}
    return means | {f"{key}_std": float(np.std(each, ddof=1)) for key, each in values.items() if len(each) > 1}


def track(
    client: MlflowClient,
    families: dict[str, dict[str, list[float]]],
    *,
    passport: str = "p1",
    digest: str = "d1",
    commit: str = "c1",
    status: str = "FINISHED",
    **params: Any,
) -> str:
    """Write a parent run with one child a family; return the parent's id."""
    place = client.get_experiment_by_name("here").experiment_id
    track.time += 60_000
    parent = client.create_run(place, track.time, run_name="mnist").info.run_id
    for name, values in families.items():
        tags = {"mlflow.parentRunId": parent, "passport_id": passport, "mlflow.source.git.commit": commit}
        child = client.create_run(place, track.time, tags, f"mnist.{name}").info.run_id
        told = {"generation.n_seeds": 3} | {key.replace("__", "."): value for key, value in params.items()}
        metrics = [Metric(key, value, track.time, 0) for key, value in record(values).items()]
        client.log_batch(child, metrics, [Param(key, str(value)) for key, value in told.items()])
        data = Dataset("mnist", digest, "code", '{"split": "test", "n": 5}')
        client.log_inputs(child, [DatasetInput(data, [])])
        client.set_terminated(child, status)
    client.set_terminated(parent, "FINISHED")
    return parent


track.time = 1_700_000_000_000


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {each.metric: each.verdict for each in comparison.metrics}


def test_the_last_two_runs_and_what_changed(client: MlflowClient) -> None:
    track(client, {"vae": {"fd_classifier": [1.0, 2.0, 3.0]}})
    track(client, {"vae": {"fd_classifier": FIRST}}, training__steps=100, training__rate=0.1)
    track(client, {"vae": {"fd_classifier": SECOND}}, training__steps=200, digest="d2", commit="c2")
    (found,) = compare_groups(read_runs(client, "here", (), 2))
    assert found.changes == [
        ("commit", "c1", "c2"),
        ("data: test", "d1", "d2"),
        ("training.rate", "0.1", None),
        ("training.steps", "100", "200"),
    ]
    (change,) = found.metrics
    assert change.before == (11.0, 1.0) and change.after == (7.5, 0.5)
    assert change.p == pytest.approx(ttest_ind(FIRST, SECOND, equal_var=False).pvalue, rel=1e-9)
    assert change.verdict == "better"


def test_a_change_within_the_noise_of_seeds_is_none(client: MlflowClient) -> None:
    track(client, {"vae": {"fd_classifier": FIRST, "coverage": [0.5, 0.5, 0.5]}})
    track(client, {"vae": {"fd_classifier": [11.5, 10.5, 12.0], "coverage": [0.4, 0.4, 0.4]}})
    (found,) = compare_groups(read_runs(client, "here", (), 2))
    assert verdicts(found) == {"fd_classifier": "no significant change", "coverage": "worse, untested"}


def test_metrics_of_another_passport_are_not_compared_but_costs_are(client: MlflowClient) -> None:
    track(client, {"vae": {"fd_classifier": FIRST, "train_seconds": [5.0]}})
    track(client, {"vae": {"fd_classifier": SECOND, "train_seconds": [4.0]}}, passport="p2")
    (found,) = compare_groups(read_runs(client, "here", (), 2))
    assert verdicts(found) == {
        "fd_classifier": "not comparable: another passport",
        "train_seconds": "better, untested",
    }


def test_runs_by_id_of_a_family_or_of_all(client: MlflowClient) -> None:
    one = track(client, {"vae": {"recall": FIRST}, "gmm": {"recall": FIRST}})
    two = track(client, {"vae": {"recall": SECOND}, "gmm": {"recall": FIRST}})
    track(client, {"vae": {"recall": FIRST}})
    found = compare_groups(read_runs(client, "here", (two, one), 2))
    assert [each.before.name for each in found] == ["mnist.gmm", "mnist.vae"]
    assert verdicts(found[0]) == {"recall": "the same"} and verdicts(found[1]) == {"recall": "worse"}
    children = [each.after.run_id for each in found] + [found[1].before.run_id]
    (again,) = compare_groups(read_runs(client, "here", (children[1], children[2]), 2))
    assert again == found[1]


def test_three_runs_stand_beside_the_first(client: MlflowClient) -> None:
    for values in (FIRST, SECOND, FIRST):
        track(client, {"vae": {"fd_classifier": values}})
    found = compare_groups(read_runs(client, "here", (), 3))
    assert [verdicts(each)["fd_classifier"] for each in found] == ["better", "the same"]


def test_what_cannot_be_compared_is_said(client: MlflowClient) -> None:
    with pytest.raises(SimulacraError, match="there are no runs with families"):
        read_runs(client, "nowhere", (), 2)
    one = track(client, {"vae": {"recall": FIRST}})
    with pytest.raises(SimulacraError, match="there is 1 run with families"):
        read_runs(client, "here", (), 2)
    other = track(client, {"gmm": {"recall": FIRST}})
    with pytest.raises(SimulacraError, match=r"no family in common; they are of mnist\.gmm, mnist\.vae"):
        compare_groups(read_runs(client, "here", (one, other), 2))
    with pytest.raises(SimulacraError, match="MLflow has no run 'abc'"):
        read_runs(client, "here", ("abc", one), 2)
    failed = track(client, {"gmm": {}}, status="FAILED")
    with pytest.raises(SimulacraError, match=f"run '{failed}' has no family that was finished"):
        read_runs(client, "here", (failed, one), 2)


def test_failed_runs_are_passed_over(client: MlflowClient) -> None:
    one = track(client, {"vae": {"recall": FIRST}})
    track(client, {"vae": {"recall": FIRST}}, status="FAILED")
    two = track(client, {"vae": {"recall": SECOND}})
    assert read_runs(client, "here", (), 2) == read_runs(client, "here", (one, two), 2)


def test_many_metrics_without_any_change_hardly_ever_show_one(client: MlflowClient) -> None:
    """By single tests at least one of seven would be found changed in up to 30 % of comparisons; by Holm's in 5."""
    for _ in range(2):
        track(client, {"vae": {"fd_classifier": FIRST}})
    told = read_runs(client, "here", (), 2)[0][0]
    keys = ["fd_classifier", "kid_classifier", "is_classifier", "precision", "recall", "density", "coverage"]
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        one, other = (
            told._replace(metrics=record({key: list(generator.normal(size=3)) for key in keys})) for _ in range(2)
        )
        wrong += any(each.verdict in ("better", "worse") for each in compare(one, other).metrics)
    assert wrong / 400 <= 0.08


def test_the_console_shows_it(client: MlflowClient) -> None:
    track(client, {"vae": {"fd_classifier": FIRST}}, training__steps=100)
    track(client, {"vae": {"fd_classifier": SECOND}}, training__steps=200)
    (found,) = compare_groups(read_runs(client, "here", (), 2))
    console = Console(width=120, record=True)
    console.print(tables(found))
    shown = console.export_text()
    assert "mnist.vae" in shown and "training.steps" in shown and "11.0 ± 1.0" in shown and "better" in shown

"""What changed between tracked runs: data, code, parameters, and metrics with the significance of their change."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from simulacra.errors import SimulacraError
from simulacra.metrics import COSTS, METRICS, MISSING, format_value
from simulacra.metrics.significance import holm
from simulacra.report.leaderboard import ARROWS

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from rich.console import Group

PARENT_TAG = "mlflow.parentRunId"
LEVEL = 0.05
SEED_COUNTS = ("generation.n_seeds", "language.n_seeds")
"""Parameters that say how many seeds a metric's standard deviation is of."""


class Told(NamedTuple):
    """What MLflow tells of one family's run.

    Args:
        run_id: MLflow's.
        name: `<dataset>.<family>`.
        began: date and time.
        commit: of the project.
        data: digest of each split.
        parameters: dotted key to value.
        metrics: last values.
        passport_id: of its metrics; empty where it was not evaluated.
    """

    run_id: str
    name: str
    began: str
    commit: str
    data: Mapping[str, str]
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    passport_id: str


class Change(NamedTuple):
    """One entry that is not the same in two runs; None where it is not there."""

    what: str
    before: str | None
    after: str | None


class MetricChange(NamedTuple):
    """One metric of two runs.

    Args:
        metric: key of METRICS.
        before: value and standard deviation over seeds, which may be missing.
        after: the same.
        p: chance of a change as large where there is none, for all metrics of the comparison together; None where no
            seeds tell.
        verdict: "better", "worse", "no significant change", "the same", or why there is none.
    """

    metric: str
    before: tuple[float, float | None]
    after: tuple[float, float | None]
    p: float | None
    verdict: str


class Comparison(NamedTuple):
    """Two runs of one family, the older first, and what is not the same in them."""

    before: Told
    after: Told
    changes: Sequence[Change]
    metrics: Sequence[MetricChange]


def read_runs(client: "MlflowClient", experiment: str, ids: Sequence[str], last: int) -> list[list[Told]]:
    """Return the families' runs of some `kedro run`, oldest first.

    Args:
        client: of the store.
        experiment: name of the experiment.
        ids: ids of parent runs, or of families' own runs; where there are none, the last ones count.
        last: how many.

    Raises:
        SimulacraError: where a run does not exist, or there are not two of them.
    """
    groups = [_named_group(client, run_id) for run_id in ids] or _last_groups(client, experiment, last)
    if len(groups) < 2:
        raise SimulacraError(
            f"there {'is 1 run' if groups else 'are no runs'} with families in experiment {experiment!r}, and it takes "
            "two to compare: run `kedro run` again with other parameters, or name two run ids"
        )
    return sorted(groups, key=lambda group: min(told.began for told in group))


def compare_groups(groups: Sequence[Sequence[Told]]) -> list[Comparison]:
    """Return the first run of every family beside each later one.

    Raises:
        SimulacraError: where no family is in two of the runs.
    """
    first: dict[str, Told] = {}
    found = []
    for told in (told for group in groups for told in sorted(group, key=lambda each: each.name)):
        if told.name in first:
            found.append(compare(first[told.name], told))
        else:
            first[told.name] = told
    if not found:
        raise SimulacraError(f"these runs have no family in common; they are of {', '.join(sorted(first))}")
    return sorted(found, key=lambda comparison: comparison.before.name)


def compare(before: Told, after: Told) -> Comparison:
    """Return what is not the same in two runs of one family."""
    changes = [*_changes("", {"commit": before.commit}, {"commit": after.commit})]
    changes += _changes("data: ", before.data, after.data)
    changes += _changes("", before.parameters, after.parameters)
    same_passport = bool(before.passport_id) and before.passport_id == after.passport_id
    keys = [key for key in METRICS if key in before.metrics and key in after.metrics]
    chances = {key: _chance(key, before, after) for key in keys if same_passport and key not in COSTS}
    adjusted = holm({key: p for key, p in chances.items() if p is not None})
    metrics = [
        _metric_change(key, before, after, adjusted.get(key), comparable=same_passport or key in COSTS) for key in keys
    ]
    return Comparison(before, after, changes, metrics)


def tables(comparison: Comparison) -> "Group":
    """Return a comparison for the console: what changed, then every metric of both runs."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    before, after = comparison.before, comparison.after
    title = Text(f"\n{before.name}: {before.began} ({before.run_id[:8]}) → {after.began} ({after.run_id[:8]})", "bold")
    changed = Table("Changed", "Before", "After", box=box.SIMPLE_HEAD)
    for change in comparison.changes:
        changed.add_row(*(Text(_brief(entry)) for entry in change))
    measured = Table("Metric", "Before", "After", "p", "Verdict", box=box.SIMPLE_HEAD)
    for each in comparison.metrics:
        metric = METRICS[each.metric]
        values = (format_value(each.metric, *pair) for pair in (each.before, each.after))
        p = "" if each.p is None else "< 0.001" if each.p < 0.001 else f"{each.p:.3f}"
        measured.add_row(Text(f"{metric.title} {ARROWS[metric.better]}"), *values, p, each.verdict)
    parts = [changed if comparison.changes else Text("  Neither data, code nor parameters changed.")]
    parts.append(measured if comparison.metrics else Text("  No metric is in both runs."))
    return Group(title, *parts)


def _brief(entry: str | None) -> str:
    """Return an entry in few characters: of a hash or a long list the beginning is enough."""
    text = MISSING if entry is None else entry
    return text if len(text) <= 40 else text[:39] + "…"


def _chance(key: str, before: Told, after: Told) -> float | None:
    """Return the p-value of Welch's t-test over sample seeds; None where a side has no spread to test by."""
    from scipy.stats import ttest_ind_from_stats

    (one, spread), (other, other_spread) = _measured(before, key), _measured(after, key)
    n, k = _seeds(before), _seeds(after)
    if not spread or not other_spread or n < 2 or k < 2:
        return None
    return float(ttest_ind_from_stats(one, spread, n, other, other_spread, k, equal_var=False).pvalue)


def _metric_change(key: str, before: Told, after: Told, p: float | None, *, comparable: bool) -> MetricChange:
    first, second = _measured(before, key), _measured(after, key)
    difference = second[0] - first[0]
    if not comparable:
        verdict = "not comparable: another passport"
    elif math.isclose(difference, 0, abs_tol=1e-12):
        verdict = "the same"
    elif p is not None and p >= LEVEL:
        verdict = "no significant change"
    else:
        better = (difference < 0) == (METRICS[key].better == "lower")
        verdict = ("better" if better else "worse") + ("" if p is not None else ", untested")
    return MetricChange(key, first, second, p, verdict)


def _measured(told: Told, key: str) -> tuple[float, float | None]:
    return told.metrics[key], told.metrics.get(f"{key}_std")


def _seeds(told: Told) -> int:
    return next((int(told.parameters[key]) for key in SEED_COUNTS if key in told.parameters), 0)


def _changes(prefix: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    pairs = ((key, before.get(key), after.get(key)) for key in sorted({*before, *after}))
    return [Change(f"{prefix}{key}", one, other) for key, one, other in pairs if one != other]


def _named_group(client: "MlflowClient", run_id: str) -> list[Told]:
    from mlflow.exceptions import MlflowException

    try:
        group = _group(client, client.get_run(run_id))
    except MlflowException as error:
        raise SimulacraError(f"MLflow has no run {run_id!r}; `mlflow ui` shows the ids") from error
    if not group:
        raise SimulacraError(f"run {run_id!r} has no family that was finished, so there is nothing to compare")
    return group


def _last_groups(client: "MlflowClient", experiment: str, last: int) -> list[list[Told]]:
    """Return the families' runs of the last runs that have any."""
    found = client.get_experiment_by_name(experiment)
    groups: list[list[Told]] = []
    token: Any = None
    while found and len(groups) < last:
        page = client.search_runs([found.experiment_id], max_results=50, page_token=token)
        parents = [run for run in page if PARENT_TAG not in run.data.tags]
        groups += [group for parent in parents if (group := _group(client, parent))]
        token = page.token
        if not token:
            break
    return groups[:last]


def _group(client: "MlflowClient", run: "Run") -> list[Told]:
    """Return the finished runs of families below a parent; of a family's own run, that one alone."""
    runs = [run]
    if PARENT_TAG not in run.data.tags:
        runs = client.search_runs([run.info.experiment_id], f"tags.`{PARENT_TAG}` = '{run.info.run_id}'")
    return [_told(each) for each in runs if each.info.status == "FINISHED"]


def _told(run: "Run") -> Told:
    began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return Told(
        run.info.run_id,
        str(run.info.run_name),
        f"{began:%Y-%m-%d %H:%M:%S}",
        run.data.tags.get("mlflow.source.git.commit", ""),
        {json.loads(each.dataset.source)["split"]: each.dataset.digest for each in inputs},
        dict(run.data.params),
        dict(run.data.metrics),
        run.data.tags.get("passport_id", ""),
    )

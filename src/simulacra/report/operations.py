"""The page of operations: who was champion when, what was decided and why, and how metrics and data moved."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from simulacra.metrics import METRICS, MISSING, format_value
from simulacra.plotting import png, trend_figure
from simulacra.report.page import Picture, fill_template

Record = Mapping[str, Any]
Rows = list[tuple[str, list[str]]]

SHOWN = 50
"""Rows of a table at most; older ones are in MLflow."""

VERSION_TITLES = ("Version", "Alias", "Family", "Registered", "Metric", "Model")
DECISION_TITLES = ("When (UTC)", "Champion then", "Challengers", "Takes over", "Why")
LOOK_TITLES = ("When (UTC)", "Train anew?", "New data", "p of drift", "Why")
TICK_TITLES = ("Due (UTC)", "By", "Status", "Outcome")
CHECK_TITLES = ("Challenger", "Check", "Passed", "In words")


def render_operations(
    dataset: str,
    versions: Sequence[Record],
    looks: Sequence[Record],
    decisions: Sequence[Record],
    schedule: Sequence[str] = (),
    ticks: Rows | None = None,
) -> str:
    """Return the page as one HTML file without external parts.

    Args:
        dataset: whose models these are.
        versions: newest first, each with `number`, `aliases`, `family`, `created`, `model_sha256` and `metrics`.
        looks: oldest first, what `watch` noted each time: `at`, `retrain`, `new_share`, `p`, `sentence`.
        decisions: oldest first, what the gate noted each time: its record, `decided_at`, and `rows` (ranking metric of
            each candidate).
        schedule: what is due, in sentences; none where nothing is.
        ticks: newest first, when each was due, and by whom it was asked for, what became of it, and its outcome.
    """
    told = [_decision(each) for each in reversed(decisions[-SHOWN:])]
    return fill_template(
        "operations.html.jinja",
        {
            "dataset": dataset,
            "generated_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "headline": _headline(versions, looks, decisions),
            "version_titles": VERSION_TITLES,
            "versions": [_version(each) for each in versions[:SHOWN]],
            "decision_titles": DECISION_TITLES,
            "decisions": told,
            "schedule": schedule,
            "tick_titles": TICK_TITLES,
            "ticks": ticks,
            "look_titles": LOOK_TITLES,
            "looks": [_look(each) for each in reversed(looks[-SHOWN:])],
            "check_titles": CHECK_TITLES,
            "last_table": _checks(decisions[-1]) if decisions else [],
            "trends": [*_metric_trend(decisions), *_drift_trend(looks)],
            "commands": [
                "kedro schedule list",
                f"kedro run --pipeline retrain --namespaces {dataset}",
                f"kedro champion --dataset {dataset} rollback",
                f"mlflow models serve -m models:/simulacra.{dataset}@champion --env-manager local -h 127.0.0.1 -p 5001",
            ],
        },
    )


def _headline(versions: Sequence[Record], looks: Sequence[Record], decisions: Sequence[Record]) -> list[str]:
    champion = next((each for each in versions if "champion" in each["aliases"]), None)
    said = ["There is no champion yet."]
    if champion is not None:
        said = [f"Version {champion['number']}, {champion['family']}, is champion since {champion['created']} UTC."]
    if decisions:
        said.append(f"{_day(decisions[-1]['decided_at'])}: {decisions[-1]['sentence']}")
    if looks:
        n = sum(not look["retrain"] for look in looks)
        said.append(f"Looked at {len(looks):,} times; in {n:,} of them there was no need to train.")
    return said


def _version(version: Record) -> tuple[str, list[str]]:
    by = next((metric for metric in METRICS if metric in version["metrics"]), None)
    measured = version["metrics"][by] if by else None
    value = (
        f"{METRICS[by].title} {format_value(by, measured['value'], measured['std'])}" if by and measured else MISSING
    )
    aliases = ", ".join(version["aliases"])
    row = [aliases, version["family"], f"{version['created']} UTC", value, version["model_sha256"][:12]]
    return str(version["number"]), row


def _decision(decision: Record) -> tuple[str, list[str]]:
    names = ", ".join(each["name"] for each in decision["challengers"]) or MISSING
    row = [decision["champion"] or MISSING, names, decision["winner"] or "nobody", decision["sentence"]]
    return _day(decision["decided_at"]), row


def _look(look: Record) -> tuple[str, list[str]]:
    share = MISSING if look["new_share"] is None else f"{100 * look['new_share']:.0f} %"
    p = MISSING if look["p"] is None else f"{look['p']:.3f}"
    return _day(look["at"]), ["yes" if look["retrain"] else "no", share, p, look["sentence"]]


def _checks(decision: Record) -> Rows:
    return [
        (each["name"], [check["check"], "yes" if check["passed"] else "no", check["words"]])
        for each in decision["challengers"]
        for check in each["checks"]
    ]


def _metric_trend(decisions: Sequence[Record]) -> list[Picture]:
    """Return how the champion and its best challenger did, by decision."""
    points: dict[str, list[tuple[str, float, float]]] = {"champion": [], "best challenger": []}
    by = decisions[-1]["ranked_by"] if decisions else ""
    for decision in decisions[-SHOWN:]:
        if decision["ranked_by"] != by:
            continue
        for name, measured in decision["rows"].items():
            points[name].append((_day(decision["decided_at"]), measured["value"], measured["std"] or 0.0))
    if max(map(len, points.values())) < 2:
        return []
    caption = (
        "Bars are ± one standard deviation over sample seeds of one training: no confidence interval, and what another "
        "training would give is not in them. Each decision has test data of its own, and an extractor "
        "where there is one, so that champion and challenger compare at one time, and times only roughly."
    )
    title = f"{METRICS[by].title} by decision"
    return [Picture(title, caption, png(trend_figure(points, METRICS[by].title)))]


def _drift_trend(looks: Sequence[Record]) -> list[Picture]:
    """Return how alike fresh data were to those of the champion's training."""
    points = [(_day(look["at"]), look["p"], 0.0) for look in looks[-SHOWN:] if look["p"] is not None]
    if len(points) < 2:
        return []
    caption = "The chance of differences as large where there are none: small is drift. Only fresh data are tested."
    return [Picture("p of drift", caption, png(trend_figure({"fresh data": points}, "p", logarithmic=True)))]


def _day(moment: str) -> str:
    """Return a moment as it should read.

    Example:
        >>> _day("2026-11-22T13:02:44+00:00")
        '2026-11-22 13:02'
    """
    return moment[:16].replace("T", " ")

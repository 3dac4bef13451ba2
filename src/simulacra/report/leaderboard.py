"""The leaderboard: families ranked by Fréchet distance between the real-vs-real floor and pure noise."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from simulacra.errors import SimulacraError
from simulacra.metrics import FRECHET, LIKELIHOODS, METRICS, format_value, ranked_by
from simulacra.metrics.passport import differences

if TYPE_CHECKING:
    from rich.table import Table

ROW_TITLES = {"floor": "real vs real (floor)", "train": "training images", "noise": "pure noise"}
ARROWS = {"lower": "↓", "higher": "↑"}

CONSOLE_TITLES = {
    "fd_classifier": "FD",
    "fid": "FID",
    "fd_efficientnet_lite0": "FD Eff.",
    "fd_dinov2": "FD DINO",
    "bits_per_byte": "Bits/byte",
    "perplexity": "Perplexity",
    "distinct_2": "Distinct-2",
    "repetition_4": "Repet.",
    "copied_8": "Copied",
    "kid_classifier": "KID",
    "is_classifier": "IS",
    "precision": "Prec.",
    "recall": "Recall",
    "coverage": "Cover.",
    "bits_per_dim": "Bits/dim",
    "train_seconds": "Train s",
    "sample_ms": "Sample ms",
}
GIVES_WAY = ("kid_classifier", "is_classifier", "train_seconds")
"""Columns of the console that leave their room to Fréchet distances by further extractors."""


def leaderboard(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a metrics record: floor, training images, families by ascending Fréchet distance, noise.

    A family whose passport is not the floor's comes after the others, unranked, and `note` says what differs.

    Args:
        records: metrics records, one of them with the role "floor".

    Returns:
        Columns row, role, rank (1 upwards, missing where nothing is ranked), every metric present and its `_std` in the
        order of `METRICS`, passport_id, comparable, note.

    Raises:
        SimulacraError: where no record has the role "floor".
    """
    floor = next((record for record in records if record["role"] == "floor"), None)
    if floor is None:
        raise SimulacraError("the leaderboard has no real-vs-real floor: run `kedro run --pipeline evaluate` first")
    by = ranked_by({metric for record in records for metric in record["metrics"]})
    ordered = sorted(records, key=lambda record: _place(record, floor, by))
    present = [metric for metric in METRICS if any(metric in record["metrics"] for record in records)]
    rows = [_row(record, floor, present, by) for record in ordered]
    ranks = iter(range(1, len(rows) + 1))
    for record, row in zip(ordered, rows, strict=True):
        row["rank"] = next(ranks) if _is_ranked(record, floor, by) else None
    return pd.DataFrame(rows).astype({"rank": "Int64"} | {key: float for metric in present for key in _keys(metric)})


def row_title(row: "Mapping[str, Any] | pd.Series[Any]") -> str:
    """Return what a row of the table, or its record, is called in front of a reader."""
    return ROW_TITLES.get(str(row["role"]), str(row["row"]))


def note(row: "pd.Series[Any]") -> str:
    """Return a row's note; an empty one comes back from a CSV file as a missing value."""
    return "" if pd.isna(row["note"]) else str(row["note"])


def leaderboard_table(table: pd.DataFrame) -> "Table":
    """Return the leaderboard for the console, at most 120 columns wide, each standard deviation below its value.

    Exact likelihoods and bounds share the column "Bits/dim": a bound is marked ≤, since the true value lies below it.

    Args:
        table: what `leaderboard` returned.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    notes = [f"{row['row']}: {note(row)}" for _, row in table.iterrows() if note(row)]
    caption = Text("\n".join(["± is one standard deviation over sample seeds", *notes]))
    console = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    console.add_column("#", justify="right")
    console.add_column("Row", max_width=20, overflow="ellipsis", no_wrap=True)
    left_out = GIVES_WAY[: max(0, sum(metric in table for metric in FRECHET) - 1)]
    metrics = [metric for metric in CONSOLE_TITLES if _console_column(table, metric) and metric not in left_out]
    for metric in metrics:
        console.add_column(f"{CONSOLE_TITLES[metric]} {ARROWS[METRICS[metric].better]}", justify="right", no_wrap=True)
    for _, row in table.iterrows():
        rank = "" if pd.isna(row["rank"]) else str(int(row["rank"]))
        console.add_row(rank, Text(row_title(row)), *(Text(_console_cell(row, metric)) for metric in metrics))
    return console


def _keys(metric: str) -> tuple[str, str]:
    """Return the names of the metric's two columns."""
    return metric, f"{metric}_std"


def _score(record: Mapping[str, Any], by: str) -> float:
    """Return the metric that ranks; infinite, hence last, where it is missing or not finite."""
    value = record["metrics"].get(by, {}).get("value")
    return value if value is not None and math.isfinite(value) else math.inf


def _is_ranked(record: Mapping[str, Any], floor: Mapping[str, Any], by: str) -> bool:
    """Tell whether the record takes part in the ranking."""
    same_passport = record["passport_id"] == floor["passport_id"]
    return record["role"] == "family" and same_passport and math.isfinite(_score(record, by))


def _place(record: Mapping[str, Any], floor: Mapping[str, Any], by: str) -> tuple[int, bool, float, str]:
    """Return the sort key: floor, training images, comparable families by score, other families by score, noise."""
    stage = {"floor": 0, "train": 1, "family": 2, "noise": 3}[record["role"]]
    return stage, record["passport_id"] != floor["passport_id"], _score(record, by), record["row"]


def _row(record: Mapping[str, Any], floor: Mapping[str, Any], present: list[str], by: str) -> dict[str, Any]:
    """Return the record as a row of the table, its rank still open."""
    row: dict[str, Any] = {"row": record["row"], "role": record["role"], "rank": None}
    for metric in present:
        measured = record["metrics"].get(metric, {})
        row |= dict(zip(_keys(metric), (measured.get("value"), measured.get("std")), strict=True))
    comparable = record["passport_id"] == floor["passport_id"]
    return row | {"passport_id": record["passport_id"], "comparable": comparable, "note": _note(record, floor, by)}


def _note(record: Mapping[str, Any], floor: Mapping[str, Any], by: str) -> str:
    """Return why the record is not ranked; empty where it is, or never would be."""
    if record["passport_id"] != floor["passport_id"]:
        found = differences(record["passport"], floor["passport"], "the floor's")
        reason = "; ".join(found) or f"id {record['passport_id']}, the floor's {floor['passport_id']}"
        return f"not comparable, another passport than the floor's: {reason}"
    if record["role"] == "family" and not _is_ranked(record, floor, by):
        return f"not ranked: no finite {METRICS[by].title}"
    return ""


def _console_column(table: pd.DataFrame, metric: str) -> bool:
    """Tell whether the console has anything to show under the metric."""
    return metric in table or (metric == "bits_per_dim" and any(key in table for key in LIKELIHOODS))


def _console_cell(row: "pd.Series[Any]", metric: str) -> str:
    """Return value and, on a second line, standard deviation."""
    if metric == "bits_per_dim":
        metric = next((key for key in LIKELIHOODS if pd.notna(row.get(key))), metric)
    bound, binary = metric.startswith("elbo"), metric.endswith("binary")
    text = format_value(metric, row.get(metric), row.get(f"{metric}_std")).replace(" ± ", "\n± ")
    return ("≤ " if bound else "") + text + ("\n(binary)" if binary else "")

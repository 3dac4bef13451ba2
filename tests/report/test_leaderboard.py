"""The leaderboard's order, what it refuses to rank, and how its numbers read."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from simulacra.errors import SimulacraError
from simulacra.metrics import format_value
from simulacra.metrics.passport import flatten, passport_id
from simulacra.report.leaderboard import leaderboard, leaderboard_table


def measure(value: float | None, std: float | None = None) -> dict:
    return {"value": value, "std": std, "per_seed": None}


def record(row: str, fd: float | None, role: str = "family", *, n_generated: int = 1000, **metrics: dict) -> dict:
    passport = {
        "extractors": {"classifier": {"name": "classifier", "sha256": "ab" * 32, "test_accuracy": 0.9}},
        "n_generated": n_generated,
        "seeds": [0, 1, 2],
        "ema": row == "vae",
        "versions": {"torch": "2"},
    }
    measured = {"fd_classifier": measure(fd, 0.2)} if fd is not None else {}
    return {
        "row": row,
        "role": role,
        "metrics": measured | metrics,
        "passport": passport,
        "passport_id": passport_id(passport),
    }


FLOOR, NOISE = record("floor", 0.5, "floor"), record("noise", 900.0, "noise")


def printed(table: pd.DataFrame, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(leaderboard_table(table))
    return console.file.getvalue()


def test_floor_comes_first_noise_last_and_families_by_distance_between():
    table = leaderboard([NOISE, record("gmm", 20.0), record("vae", 3.0), FLOOR, record("gan", 7.0)])
    assert table["row"].tolist() == ["floor", "vae", "gan", "gmm", "noise"]
    assert table["rank"].tolist() == [pd.NA, 1, 2, 3, pd.NA]
    assert table["comparable"].all()
    assert table["note"].tolist() == [""] * 5


def test_a_family_that_beats_the_floor_or_loses_to_noise_keeps_the_order():
    table = leaderboard([NOISE, record("worse", 1000.0), record("better", 0.1), FLOOR])
    assert table["row"].tolist() == ["floor", "better", "worse", "noise"]


def test_another_passport_keeps_a_family_out_of_the_ranking_and_the_note_says_what_differs():
    table = leaderboard([FLOOR, record("best", 1.0, n_generated=500), record("vae", 3.0), NOISE])
    assert table["row"].tolist() == ["floor", "vae", "best", "noise"]
    assert table["rank"].tolist() == [pd.NA, 1, pd.NA, pd.NA]
    assert table["comparable"].tolist() == [True, True, False, True]
    assert "n_generated 500, the floor's 1000" in table["note"][2]
    # Moving average, versions and the numbers of the seeds are a family's own matter.
    assert "ema" not in table["note"][2]


def test_other_seeds_are_no_difference_but_fewer_seeds_are():
    fewer = record("vae", 3.0)
    fewer["passport"]["seeds"] = [7, 8]
    fewer["passport_id"] = passport_id(fewer["passport"])
    assert leaderboard([FLOOR, fewer])["note"][1].endswith("number of seeds 2, the floor's 3")


def test_long_hashes_are_shortened_in_notes():
    other = record("vae", 3.0)
    other["passport"]["extractors"]["classifier"]["sha256"] = "cd" * 32
    other["passport_id"] = "other"
    assert (
        "extractors.classifier.sha256 cdcdcdcdcdcd…, the floor's abababababab…"
        in leaderboard([FLOOR, other])["note"][1]
    )


@pytest.mark.parametrize("fd", [None, math.nan, math.inf])
def test_a_family_without_a_finite_distance_stands_unranked_below_the_others(fd):
    table = leaderboard([FLOOR, record("broken", fd), record("vae", 3.0), NOISE])
    assert table["row"].tolist() == ["floor", "vae", "broken", "noise"]
    assert table["rank"].tolist() == [pd.NA, 1, pd.NA, pd.NA]
    assert "not ranked" in table["note"][2]


def test_columns_follow_the_metric_table_and_hold_values_and_deviations():
    vae = record("vae", 3.0, recall=measure(0.7, 0.01), precision=measure(0.8, 0.02), parameters=measure(123))
    table = leaderboard([FLOOR, vae])
    metrics = ["fd_classifier", "precision", "recall", "parameters"]
    paired = [key for metric in metrics for key in (metric, f"{metric}_std")]
    assert list(table) == ["row", "role", "rank", *paired, "passport_id", "comparable", "note"]
    assert table.loc[1, ["precision", "precision_std", "parameters"]].tolist() == [0.8, 0.02, 123]
    assert math.isnan(table.loc[0, "precision"])
    assert math.isnan(table.loc[1, "parameters_std"])


def test_no_floor_no_leaderboard():
    with pytest.raises(SimulacraError, match="floor"):
        leaderboard([NOISE])


@pytest.mark.parametrize(
    ("metric", "value", "std", "text"),
    [
        ("fd_classifier", 3.104, 0.2, "3.10 ± 0.20"),
        ("fd_classifier", 912.34, 12.3, "912 ± 12"),
        ("fd_classifier", 12345.6, 123.0, "12,346 ± 123"),
        ("fd_classifier", 3.104, None, "3.10"),
        ("fd_classifier", 3.104, math.nan, "3.10"),
        ("fd_classifier", 3.104, 0.0, "3.10 ± 0.00"),
        ("kid_classifier", -0.5, 1.25, "−0.5 ± 1.2"),
        ("kid_classifier", -0.0001, None, "0.00"),
        ("precision", 0.95, 0.0124, "0.950 ± 0.012"),
        ("parameters", 41_484_304, None, "41,484,304"),
        ("train_seconds", 94.72, None, "94.7"),
        ("recall", None, None, "—"),
        ("recall", math.nan, 0.1, "—"),
    ],
)
def test_numbers_read_as_they_should(metric, value, std, text):
    assert format_value(metric, value, std) == text


def full_board() -> pd.DataFrame:
    quality = {
        "kid_classifier": measure(-1234.5, 123.4),
        "is_classifier": measure(9.71, 0.02),
        "precision": measure(0.874, 0.009),
        "recall": measure(0.701, 0.014),
        "density": measure(0.803, 0.02),
        "coverage": measure(0.742, 0.013),
    }
    cost = {"train_seconds": measure(12345.6), "sample_ms": measure(1234.56), "parameters": measure(41_484_304)}
    vae = record("vae", 7.31, elbo_bits_per_dim=measure(11.388, 0.002), **quality, **cost)
    gmm = record("gmm", 18.42, bits_per_dim=measure(1.921), **quality, **cost)
    return leaderboard([FLOOR, vae, gmm, record("odd [red]", 1.0, n_generated=5), NOISE])


def test_console_table_shows_values_within_120_columns():
    text = printed(full_board())
    assert max(map(len, text.splitlines())) <= 120
    for part in ("real vs real (floor)", "pure noise", "FD ↓", "IS ↑", "Bits/dim ↓", "Sample ms ↓"):
        assert part in text
    for number in (
        "7.31",
        "± 0.20",
        "18.42",
        "0.701",
        "± 0.014",
        "≤ 11.388",
        "1.921",
        "12,345.6",
        "1,234.56",
        "−1,234",
    ):
        assert number in text
    assert "odd [red]: not comparable" in text
    assert "…" not in text.split("±", maxsplit=1)[0]


def test_console_table_keeps_its_width_with_every_extractor():
    table = full_board()
    for metric in ("fid", "fd_efficientnet_lite0", "fd_dinov2", "precision_dinov2", "kid_inception"):
        table[metric], table[f"{metric}_std"] = 1234.56, 12.3
    text = printed(table)
    assert max(map(len, text.splitlines())) <= 120
    assert all(part in text for part in ("FD ↓", "FID ↓", "FD Eff. ↓", "FD DINO ↓", "Recall ↑", "1,235", "± 12"))
    assert "KID" not in text and "…" not in text.split("±", maxsplit=1)[0]


def test_without_the_classifier_another_extractor_ranks():
    records = [record("floor", None, "floor", fid=measure(1.0))]
    records += [record(name, None, fid=measure(value)) for name, value in (("vae", 3.0), ("gmm", 2.0))]
    assert leaderboard(records)["row"].tolist() == ["floor", "gmm", "vae"]


def test_console_table_ranks_only_what_may_be_ranked():
    rows = [line.split() for line in printed(full_board()).splitlines()]
    assert [row[:2] for row in rows if row and row[0].isdigit()] == [["1", "vae"], ["2", "gmm"]]


def test_console_table_reads_the_same_after_a_round_trip_through_csv():
    table = full_board()
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert printed(again) == printed(table)
    clean = leaderboard([FLOOR, record("vae", 3.0), NOISE])
    assert printed(pd.read_csv(io.StringIO(clean.to_csv(index=False)))) == printed(clean)


def test_flatten_keeps_empty_prefixes_and_depth():
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": {}}) == {"a.b.c": 1, "a.d": [1, 2]}

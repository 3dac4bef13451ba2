"""What the report says in words, against numbers whose reading is plain."""

import pytest

from simulacra.metrics.likelihood import Likelihood
from simulacra.report.leaderboard import leaderboard
from simulacra.report.sentences import (
    headline,
    likelihood_sentence,
    passport_sentence,
    prompt_sentences,
    text,
    verdicts_in_short,
)

HELPS = {"family": "vae", "verdict": "helps", "difference": 0.024}
NOT_APPLICABLE = {"family": "gmm", "verdict": "not applicable", "difference": None}
PASSPORT = {
    "extractors": {"classifier": {"name": "classifier", "sha256": "ab" * 32, "test_accuracy": 0.967}},
    "n_real": 1000,
    "n_generated": 1000,
    "compared": "generated images with the test split",
    "seeds": [0, 1, 2],
}


def record(row: str, fd: float, role: str = "family", *, std: float | None = 0.1) -> dict:
    metrics = {"fd_classifier": {"value": fd, "std": std, "per_seed": None}}
    return {"row": row, "role": role, "metrics": metrics, "passport": PASSPORT, "passport_id": "aaa"}


RECORDS = [record("floor", 0.5, "floor"), record("vae", 5.0), record("gmm", 20.0), record("noise", 1000.0, "noise")]


def test_headline_tells_rank_floor_noise_and_lead():
    ranked, floor, noise, lead = headline(leaderboard(RECORDS))
    assert ranked == "vae ranks first, with FD (classifier) 5.00 ± 0.10."
    assert floor.endswith("score 0.50 ± 0.10: vae lies at 10 times that.")
    assert noise == "Pure noise scores 1,000.00 ± 0.10, 200 times as much as vae."
    assert lead == "Next comes gmm at 20.00 ± 0.10; the gap is more than twice the spread over sample seeds."


# Two spreads of 0.3 and 0.4 combine to 0.5; a gap counts from 1 on.
@pytest.mark.parametrize(("second", "clear"), [(5.9, False), (6.1, True)])
def test_a_lead_within_the_spread_is_no_clear_lead(second, clear):
    records = [RECORDS[0], record("a", 5.0, std=0.3), record("b", second, std=0.4)]
    assert headline(leaderboard(records))[-1].endswith("no clear winner.") is not clear


def test_headline_says_less_where_it_knows_less():
    without_spread = headline(leaderboard([RECORDS[0], record("a", 5.0, std=None), record("b", 6.0)]))
    assert without_spread[-1] == "Next comes b at 6.00 ± 0.10."
    negative_floor = headline(leaderboard([record("floor", -0.1, "floor"), record("a", 5.0)]))
    assert negative_floor[-1].endswith("score −0.10 ± 0.10.")
    below_floor = headline(leaderboard([record("floor", 3.0, "floor"), record("a", 2.0)]))
    assert below_floor[-1].endswith("score 3.00 ± 0.10, 1.5 times as much as a.")


def test_passport_reads_as_a_sentence():
    assert passport_sentence(RECORDS[0]) == (
        "1,000 images against 1,000 real ones (generated images with the test split), seen through classifier "
        "features (test accuracy 96.7 %), over seeds 0, 1, 2."
    )


def test_a_likelihoods_conditions_read_as_a_sentence():
    assert likelihood_sentence(
        Likelihood(bound=False, dequantisation="uniform", classes_summed_out=True).describe(50)
    ) == ("exact, of pixels of 256 levels, uniform dequantisation, log-mean of 50 draws, classes summed out")
    assert likelihood_sentence(Likelihood(bound=True, binarisation="random").describe(1)) == (
        "lower bound, of binarised pixels (random), no dequantisation, 1 draw, no classes"
    )


def test_a_number_without_chance_speaks_of_no_draws():
    exact = Likelihood(bound=False, classes_summed_out=True).describe(50)
    assert likelihood_sentence(exact) == "exact, of pixels of 256 levels, no dequantisation, classes summed out"


def test_verdicts_are_told_in_one_sentence_the_helpful_first():
    hurts = HELPS | {"family": "flow", "verdict": "hurts", "difference": -0.022}
    assert verdicts_in_short([NOT_APPLICABLE, hurts, HELPS, HELPS | {"family": "gan"}]) == (
        "Do synthetic images help a classifier short of data (change in points)? "
        "Helps: vae (+2.4), gan (+2.4); hurts: flow (−2.2); not applicable: gmm."
    )


@pytest.mark.parametrize(
    ("value", "key", "expected"),
    [
        (None, "", "—"),
        (True, "", "yes"),
        (12345, "parameters", "12,345"),
        (12345, "seed", "12345"),
        ([1, 28, 28], "shape", "1, 28, 28"),
        ([], "paths", "—"),
        (94.72345, "seconds", "94.723"),
        ("cpu", "device", "cpu"),
    ],
)
def test_entries_of_records_read_as_they_should(value, key, expected):
    assert text(value, key) == expected


def test_fidelity_to_prompts_comes_with_intervals_and_what_chance_has() -> None:
    share = {"value": 0.975, "interval": [0.957, 0.986], "n": 480}
    words = {"thin": share, "slanted": share | {"value": 0.8}}
    record = {"fidelity": {"classes": share, "attributes": share, "words": words}, "extractor": {"test_accuracy": 0.98}}
    said = prompt_sentences(record)
    assert "takes 97.5 % (95.7 to 98.6 %) for the class named; of real test images 98.0 %" in said
    assert "has a third: thin 97.5 %, slanted 80.0 %." in said
    without = prompt_sentences(record | {"fidelity": record["fidelity"] | {"words": {}}})
    assert "do not differ" in without and "third" not in without

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from simulacra.errors import SimulacraError
from simulacra.human.analysis import analyse, error_rates, family_metrics, preference
from simulacra.human.answers import Answer
from simulacra.human.config import ExclusionConfig
from simulacra.human.study import NOISE, REAL

EVERYBODY = ExclusionConfig(failed_checks=None, median_seconds=None, answers=None)


def table(rows: list[Answer]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(Answer._fields))


def singles(rater: str, shown: str, real: int, generated: int, *, seconds: float = 2.0) -> list[Answer]:
    """So many answers of a rater to images of one origin."""
    said = ["real"] * real + ["generated"] * generated
    return [Answer(rater, f"{shown}{n}", "real_or_fake", shown, "", word, seconds, "") for n, word in enumerate(said)]


def checks(rater: str, right: int, wrong: int) -> list[Answer]:
    said = ["generated"] * right + ["real"] * wrong
    return [
        Answer(rater, f"noise{n}", "real_or_fake", NOISE, "", word, 1.0, "generated") for n, word in enumerate(said)
    ]


def compared(winner: str, loser: str, n: int) -> list[Answer]:
    """The winner now left, now right."""
    ways = [(winner, loser, "left"), (loser, winner, "right")]
    return [Answer("ann", f"{winner}{loser}{i}", "preference", *ways[i % 2], 1.0, "") for i in range(n)]


def test_error_rates_and_wilson_intervals_by_hand() -> None:
    found = error_rates(table(singles("ann", "gan", 8, 2) + singles("ann", "vae", 0, 5) + singles("ann", REAL, 15, 5)))
    assert {name: rate["value"] for name, rate in found["families"].items()} == {"gan": 0.8, "vae": 0}
    assert found["real"]["value"] == 0.25 and found["real"]["n"] == 20
    # Wilson 1927: the roots of (p - 0.8)² = z² p (1 - p) / 10.
    z, n, p = norm.ppf(0.975), 10, 0.8
    middle, reach = (p + z * z / (2 * n)) / (1 + z * z / n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["families"]["gan"]["interval"] == pytest.approx(
        [middle - reach / (1 + z * z / n), middle + reach / (1 + z * z / n)]
    )
    assert found["families"]["vae"]["interval"][0] == 0 < found["families"]["vae"]["interval"][1]


def test_rules_leave_raters_out_and_say_why() -> None:
    good = singles("ann", "gan", 10, 20) + checks("ann", 4, 0)
    careless = singles("bob", "gan", 30, 0) + checks("bob", 1, 3)
    hasty = singles("cyd", "gan", 30, 0, seconds=0.1) + checks("cyd", 4, 0)
    few = singles("dan", "gan", 5, 0)
    record = analyse(table(good + careless + hasty + few), ExclusionConfig())
    assert {rater["rater"]: rater["excluded"] for rater in record["raters"]} == {
        "ann": [],
        "bob": ["failed 3 of 4 attention checks"],
        "cyd": ["median time 0.10 s"],
        "dan": ["5 answers"],
    }
    assert record["families"]["gan"]["value"] == pytest.approx(1 / 3) and record["n_answers"] == 30
    assert record["n_raters"] == 1 and len(record["rules"]) == 3
    assert "more than 25 % of the attention checks" in record["rules"][0]
    everybody = analyse(table(good + careless + hasty + few), EVERYBODY)
    assert everybody["n_raters"] == 4 and everybody["rules"] == ["Nobody is left out: no rule is switched on."]
    assert everybody["families"]["gan"]["n"] == 95  # attention checks are no answers


def test_rules_that_leave_nobody_are_refused() -> None:
    with pytest.raises(SimulacraError, match=r"leave none of 1 raters \(bob: failed 3 of 3 attention checks\)"):
        analyse(table(singles("bob", "gan", 30, 0) + checks("bob", 0, 3)), ExclusionConfig())


def test_the_table_of_raters() -> None:
    given = singles("ann", REAL, 6, 2) + singles("ann", "gan", 3, 5, seconds=4.0) + checks("ann", 3, 1)
    (rater,) = analyse(table(given), EVERYBODY)["raters"]
    assert rater == {
        "rater": "ann",
        "answers": 16,
        "accuracy": 11 / 16,
        "said_real": 9 / 16,
        "checks": 4,
        "failed_checks": 1,
        "median_seconds": 3.0,
        "excluded": [],
    }


def test_raters_who_are_not_known_have_rates_but_no_table() -> None:
    record = analyse(table(singles("", "gan", 3, 1)), ExclusionConfig())
    assert record["raters"] == [] and record["n_raters"] is None and record["families"]["gan"]["value"] == 0.75
    assert record["rules"] == ["Nobody is left out: the file does not tell raters apart."]


def test_preferences_are_ranked_and_a_family_that_always_wins_is_named() -> None:
    record = preference(
        table(
            compared("gan", "vae", 6)
            + compared("vae", "gan", 2)
            + compared("vae", "gmm", 3)
            + compared("gmm", "gan", 1)
        )
    )
    assert list(record["families"]) == ["gan", "vae", "gmm"] and record["note"] == ""
    assert record["families"]["gan"]["won"] == 6 and record["families"]["gan"]["n"] == 9
    always = preference(table(compared("gan", "vae", 6)))
    assert "gan won all its comparisons, vae won none" in always["note"] and "0.5 wins were added" in always["note"]
    assert preference(table([])) is None


def test_agreement_is_by_mode_without_attention_checks() -> None:
    given = [answer for rater in ("ann", "bob") for answer in singles(rater, "gan", 2, 2) + checks(rater, 2, 2)]
    record = analyse(table(given), EVERYBODY)
    assert record["agreement"] == {"real_or_fake": {"alpha": 1.0, "units": 4}}
    alone = analyse(table(singles("ann", "gan", 2, 2)), EVERYBODY)
    assert alone["agreement"] == {"real_or_fake": {"alpha": None, "units": 0}}


def test_metrics_of_a_family_have_clear_keys() -> None:
    record = analyse(
        table(singles("ann", "gan", 3, 1) + compared("gan", "vae", 2) + compared("vae", "gan", 1)), EVERYBODY
    )
    metrics = family_metrics(record, "gan")
    keys = {f"human_{what}{end}" for what in ("error_rate", "strength") for end in ("", "_low", "_high")}
    assert set(metrics) == keys and metrics["human_error_rate"] == 0.75
    assert set(family_metrics(record, "vae")) == {key for key in keys if "strength" in key}
    assert family_metrics(record, "flow") == {}


def test_intervals_of_simulated_studies_cover_the_true_rates_in_95_of_100() -> None:
    """Whole studies: raters who see the same images, each answering by the family's true rate."""
    rng = np.random.default_rng(0)
    truth = {"gan": 0.43, "vae": 0.2, "gmm": 0.05, REAL: 0.85}
    raters = [f"rater{n}" for n in range(8)]
    shown = [name for name in truth for _ in range(12)]
    frame = table(
        [
            Answer(rater, f"{n}", "real_or_fake", name, "", "", 1.0, "")
            for rater in raters
            for n, name in enumerate(shown)
        ]
    )
    chances = frame["left"].map(truth).to_numpy()
    hits = []
    for _ in range(250):
        frame["answer"] = np.where(rng.random(len(frame)) < chances, "real", "generated")
        found = error_rates(frame)
        rates = found["families"] | {REAL: found["real"]}
        for name, rate in truth.items():
            low, high = rates[name]["interval"]
            hits.append(low <= (1 - rate if name == REAL else rate) <= high)
    # 1000 intervals of 95 %: the standard deviation of the share that covers is 0.007.
    assert np.mean(hits) >= 0.93


def test_raters_and_images_without_a_name_are_ones_of_their_own() -> None:
    named = singles("ann", "gan", 30, 30)
    nameless = [answer._replace(rater="", unit="") for answer in named]
    first, second = (error_rates(table(rows))["families"]["gan"] for rows in (named, nameless))
    assert first == second

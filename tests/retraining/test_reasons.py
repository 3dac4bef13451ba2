"""Tests of the reasons: each alone at both sides of its limit, and which of them outweigh which."""

import dataclasses
import json
import math

import pytest

from simulacra.retraining.config import RetrainingConfig
from simulacra.retraining.gate import Measured
from simulacra.retraining.reasons import Decay, Drift, Facts, decide

FAMILIES = ("gmm", "vae")
ALL = ["no champion", "forced", "no need", "new data", "drift", "decay", "age"]


def facts(**known) -> Facts:
    return Facts("mnist", FAMILIES, **({"champion": "vae"} | known))


def config(**when) -> RetrainingConfig:
    return RetrainingConfig(when=when)


def saying(decision) -> list[str]:
    return [reason.reason for reason in decision.reasons if reason.retrain]


def decay(then: float, now: float, *, std: float | None = None, metric: str = "fd_classifier", **floors) -> Decay:
    return Decay(metric, Measured(then, std, 3), Measured(now, std, 3), **floors)


def test_without_a_champion_all_families_are_trained():
    decision = decide(facts(champion=None, unchanged=True), config())
    assert decision.retrain and decision.families == FAMILIES and saying(decision) == ["no champion"]
    assert decision.sentence == "Train gmm, vae on mnist anew: there is no champion yet."


def test_nothing_known_is_no_reason():
    decision = decide(facts(), config(max_age_days=1))
    assert not decision.retrain and decision.families == () and saying(decision) == []
    assert [reason.reason for reason in decision.reasons] == ALL


def test_force_outweighs_that_nothing_has_changed():
    decision = decide(facts(unchanged=True), config(force=True))
    assert decision.families == ("vae",) and saying(decision) == ["forced"]


def test_the_same_data_and_parameters_need_no_training_whatever_else_is_said():
    known = {"new_share": 0.9, "drift": Drift(0.0001), "decay": decay(3.0, 9.0), "age_days": 400.0}
    assert saying(decide(facts(**known), config(max_age_days=30))) == ["new data", "drift", "decay", "age"]
    decision = decide(facts(unchanged=True, **known), config(max_age_days=30))
    assert not decision.retrain and saying(decision) == []
    assert decision.sentence == (
        "Nothing to train on mnist: data and parameters are those that the champion was made from, and would make it "
        "again."
    )
    assert saying(decide(facts(unchanged=False, **known), config())) == ["new data", "drift", "decay"]


@pytest.mark.parametrize(("share", "limit", "said"), [(0.1, 0.1, 1), (0.0999, 0.1, 0), (0.0, 0.0, 0), (0.9, None, 0)])
def test_share_of_new_data(share, limit, said):
    assert len(saying(decide(facts(new_share=share), config(new_share=limit)))) == said


def test_drift_names_what_moved():
    decision = decide(facts(drift=Drift(0.002, ["ink share", "contrast"])), config())
    assert saying(decision) == ["drift"]
    assert (
        "fresh data are not like those of the training (p = 0.002, above all ink share, contrast)" in decision.sentence
    )
    assert not decide(facts(drift=Drift(0.01)), config()).retrain
    assert not decide(facts(drift=Drift(0.002)), config(drift=None)).retrain


def test_decay_must_exceed_its_margin():
    """10 % of 5 are 0.5; of a metric of which more is better, a fall counts."""
    assert not decide(facts(decay=decay(5.0, 5.49)), config()).retrain
    assert saying(decide(facts(decay=decay(5.0, 5.51)), config())) == ["decay"]
    assert saying(decide(facts(decay=decay(0.8, 0.7, metric="recall")), config())) == ["decay"]
    assert not decide(facts(decay=decay(0.8, 0.9, metric="recall")), config()).retrain
    assert saying(decide(facts(decay=decay(5.0, 5.2)), config(decay={"absolute": 0.1}))) == ["decay"]
    assert not decide(facts(decay=decay(5.0, 50.0)), config(decay=None)).retrain


def test_decay_must_exceed_the_spread_of_samples():
    """A standard deviation of 1 over 3 seeds of each makes 2.27 of Welch's test at 5 % (4 degrees of freedom)."""
    reason = next(each for each in decide(facts(decay=decay(5.0, 7.0, std=1.0)), config()).reasons if each.value)
    assert reason.limit == pytest.approx(2.7764 * math.sqrt(2 / 3), abs=1e-3) and not reason.retrain
    assert saying(decide(facts(decay=decay(5.0, 7.5, std=1.0)), config())) == ["decay"]


def test_decay_is_measured_from_the_floors():
    harder = decay(5.0, 6.0, floor_then=1.0, floor_now=2.0)
    assert harder.loss == 0 and not decide(facts(decay=harder), config()).retrain
    assert saying(decide(facts(decay=decay(5.0, 6.0, floor_then=1.0)), config())) == ["decay"]


def test_age_counts_where_a_limit_is_set():
    assert saying(decide(facts(age_days=30.5), config(max_age_days=30))) == ["age"]
    assert not decide(facts(age_days=30.0), config(max_age_days=30)).retrain
    assert not decide(facts(age_days=3000.0), config()).retrain


def test_families_of_the_configuration_come_first():
    told = RetrainingConfig(families=["gmm"])
    assert decide(facts(new_share=0.5), told).families == ("gmm",)
    assert decide(facts(champion=None), told).families == ("gmm",)
    assert decide(facts(new_share=0.01), told).families == ()


def test_record_and_table_hold_every_reason():
    known = {"new_share": 0.004, "drift": Drift(0.5), "decay": decay(5.0, 5.1), "age_days": 2.25, "unchanged": False}
    decision = decide(facts(**known), config(max_age_days=30))
    told = json.loads(json.dumps(decision.record(), allow_nan=False))
    assert (told["dataset"], told["retrain"], told["families"]) == ("mnist", False, [])
    assert [reason["reason"] for reason in told["reasons"]] == ALL
    table = decision.frame().set_index("reason")
    assert table.loc["new data", "value"] == 0.004 and table.loc["age", "limit"] == 30 and not table["retrain"].any()
    assert "0.4 % of the data are new, fewer than 10 %" in decision.sentence
    assert "the champion is 2.2 days old, no more than 30" in decision.sentence


def test_a_decay_that_is_no_number_is_not_known():
    decision = decide(facts(decay=decay(5.0, math.nan)), config())
    assert not decision.retrain
    json.dumps(decision.record(), allow_nan=False)


@pytest.mark.parametrize("champion", ["vae", None])
def test_what_was_tried_is_not_tried_again_unless_it_is_forced(champion: str | None) -> None:
    facts = Facts("mnist", ("gmm", "vae"), champion, new_share=0.5, tried="2026-11-22T15:00:00+00:00")
    found = decide(facts, RetrainingConfig())
    assert not found.retrain and found.families == ()
    assert found.sentence == (
        "Nothing to train on mnist: the same was tried on 2026-11-22 15:00 UTC, and no model took over."
    )
    assert decide(facts, RetrainingConfig(when={"force": True})).retrain
    assert decide(dataclasses.replace(facts, tried=None), RetrainingConfig()).retrain

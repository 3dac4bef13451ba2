"""Tests of the gate: its rules one by one, and how often chance gets past it, by simulation."""

import json
import math
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind_from_stats

from simulacra.errors import SimulacraError
from simulacra.metrics.passport import passport_id, summarise
from simulacra.retraining.config import GateConfig
from simulacra.retraining.gate import Candidate, GateDecision, Measured, judge, noise_of_difference

PASSPORT = {"n_real": 500, "n_generated": 500, "seeds": [0, 1, 2], "reference_sha256": "a" * 64}
MEANS = {"fd_classifier": 10.0, "kid_classifier": 20.0, "precision": 0.8, "recall": 0.6, "coverage": 0.7, "vendi": 30.0}
TRAINING_NOISE = {
    "fd_classifier": 0.08,
    "kid_classifier": 0.1,
    "precision": 0.01,
    "recall": 0.02,
    "coverage": 0.02,
    "vendi": 0.02,
}
CONFIG = GateConfig(
    margins={"fd_classifier": {"relative": 0.05}}
    | {key: {"relative": 0.05} for key in MEANS if key != "fd_classifier"},
    noise=TRAINING_NOISE,
)


def record(metrics: dict, **passport) -> dict:
    """Return a metrics record as the judge writes it: of each metric, a value for every seed of samples."""
    told = PASSPORT | passport
    return {
        "row": "vae",
        "role": "family",
        "metrics": {
            key: summarise(value if isinstance(value, list) else [value] * 3) for key, value in metrics.items()
        },
        "passport": told,
        "passport_id": passport_id(told),
        "cautions": [],
    }


def candidate(name: str, fd: float = 10.0, **more) -> Candidate:
    keywords = {key: more.pop(key) for key in ("flags", "verdict") if key in more}
    return Candidate(name, record({"fd_classifier": [fd - 0.1, fd, fd + 0.1]} | more), **keywords)


def row(decision: GateDecision, check: str, metric: str = ""):
    (found,) = [each for each in decision.checks if each.check == check and metric in ("", each.metric)]
    return found


class Noise(NamedTuple):
    """How large noise is, in units of TRAINING_NOISE: of the seed of the training, and of that of the samples."""

    training: float
    samples: float


def drawn(name: str, rng: np.random.Generator, means: dict[str, float], noise: "Noise | None" = None) -> Candidate:
    """Return a training by a seed of its own: every metric off by the training's noise, every sample by its own."""
    noise, metrics = noise or REGIMES[0], {}
    for key, mean in means.items():
        unit = mean * TRAINING_NOISE[key]
        metrics[key] = (mean + unit * (noise.training * rng.normal() + noise.samples * rng.normal(size=3))).tolist()
    return Candidate(name, record(metrics))


def decisions(n: int, gain: float, n_challengers: int, noise: Noise, seed: int) -> list[GateDecision]:
    """Return n decisions in which the first challenger's ranking metric is truly better by the gain, nothing else."""
    rng = np.random.default_rng(seed)
    better = MEANS | {"fd_classifier": MEANS["fd_classifier"] - gain}
    known = {key: noise.training * relative for key, relative in TRAINING_NOISE.items()}
    config = CONFIG.model_copy(update={"noise": known})
    made = []
    for _ in range(n):
        means = [better if i == 0 else MEANS for i in range(n_challengers)]
        challengers = [drawn(f"new {i}", rng, each, noise) for i, each in enumerate(means)]
        made.append(judge(drawn("old", rng, MEANS, noise), challengers, config))
    return made


REGIMES = [Noise(1.0, 0.5), Noise(1.0, 0.0), Noise(0.0, 1.0)]


@pytest.mark.parametrize("noise", REGIMES)
@pytest.mark.parametrize("n_challengers", [1, 3])
def test_seed_noise_is_promoted_at_most_once_in_twenty(n_challengers, noise):
    made = decisions(2000, 0.0, n_challengers, noise, seed=n_challengers)
    assert sum(decision.winner is not None for decision in made) / 2000 <= 0.05


@pytest.mark.parametrize("noise", REGIMES)
@pytest.mark.parametrize("n_challengers", [1, 3])
def test_twice_the_margin_is_promoted_nineteen_times_in_twenty(n_challengers, noise):
    usual = decisions(200, 0.0, n_challengers, noise, seed=20)
    margins = [check.margin for decision in usual for check in decision.checks if check.check == "improvement"]
    made = decisions(2000, 2 * float(np.mean(margins)), n_challengers, noise, seed=10 + n_challengers)
    assert sum(decision.winner == "new 0" for decision in made) / 2000 >= 0.95


def test_unstable_guards_do_not_keep_an_improvement_out():
    """Guards without any margin refuse equal models no more often than the correction allows, all together."""
    config = CONFIG.model_copy(update={"margins": GateConfig(margins={key: {"absolute": 0} for key in MEANS}).margins})
    rng, refused = np.random.default_rng(5), 0
    for _ in range(1000):
        decision = judge(drawn("old", rng, MEANS), [drawn("new", rng, MEANS)], config)
        refused += any(not check.passed for check in decision.checks if check.check == "guard")
    assert refused / 1000 <= 0.06


def test_noise_of_a_difference_is_a_normal_quantile_of_known_noise():
    """σ of a training is 5 % of 10; a difference of two has √2 times that; two-sided 5 %: 1.96 of it."""
    exact = Measured(10.0, None, 1)
    found = noise_of_difference(exact, exact, relative=0.05, trainings=None, level=0.05)
    assert found == pytest.approx(norm.ppf(0.975) * math.sqrt(2) * 0.5)


def test_noise_of_samples_alone_is_welch_s_t_test():
    """At the level that is Welch's p-value, the noise of the difference is the difference itself."""
    one, other = Measured(3.0, 0.4, 5), Measured(3.9, 0.7, 3)
    p = ttest_ind_from_stats(3.0, 0.4, 5, 3.9, 0.7, 3, equal_var=False).pvalue
    found = noise_of_difference(one, other, relative=0.0, trainings=None, level=p)
    assert found == pytest.approx(0.9)


def test_noise_measured_by_few_trainings_is_taken_for_larger():
    exact = Measured(10.0, None, 1)
    few, many, known = (
        noise_of_difference(exact, exact, relative=0.05, trainings=n, level=0.05) for n in (4, 100, None)
    )
    assert few > many > known == pytest.approx(many, rel=0.02)
    assert noise_of_difference(exact, exact, relative=0.0, trainings=4, level=0.05) == 0


def test_the_greater_of_margin_and_noise_counts():
    of_margin = GateConfig(margins={"fd_classifier": {"relative": 0.3}}, noise={"fd_classifier": 0.01})
    assert row(judge(candidate("old"), [candidate("new", 7.5)], of_margin), "improvement").margin == pytest.approx(3)
    of_noise = GateConfig(margins={"fd_classifier": {"relative": 0.01}}, noise={"fd_classifier": 0.1})
    found = row(judge(candidate("old"), [candidate("new", 7.5)], of_noise), "improvement")
    assert found.margin > norm.ppf(0.975) * math.sqrt(2) and not found.passed
    assert (found.better, found.champion, found.value, found.std) == ("lower", 10, 7.5, pytest.approx(0.1))


def test_more_challengers_must_show_more():
    one, three = (
        judge(candidate("old"), [candidate(str(i)) for i in range(n)], CONFIG).frame().query("check == 'improvement'")
        for n in (1, 3)
    )
    assert three["margin"].min() > one["margin"].item()


def test_the_best_of_those_that_pass_wins():
    flagged = candidate("best", 2.0, flags=[{"name": "diverges", "step": 9, "symptom": "it rises", "remedy": "less"}])
    decision = judge(candidate("old"), [candidate("good", 5.0), flagged, candidate("better", 4.0)], CONFIG)
    assert decision.winner == "better"
    assert [judgement.passed for judgement in decision.judgements] == [True, False, True]
    assert decision.sentence.startswith("better takes over from old. better: FD (classifier) is 4.00 ± 0.10")


def test_other_passports_are_refused_with_what_differs():
    other = Candidate("new", record({"fd_classifier": [1.0, 1.1, 1.2]}, n_real=400))
    decision = judge(candidate("old"), [other], CONFIG)
    assert decision.winner is None
    assert "n_real 400, the champion's 500" in row(decision, "passport").words
    assert not [check for check in decision.checks if check.check == "improvement"], "nothing is compared"
    floor = record({"memorised": 0.01}, reference_sha256="b" * 64)
    told = row(judge(candidate("old"), [candidate("new", 1.0)], CONFIG, floor=floor), "passport")
    assert not told.passed and "reference_sha256 aaaaaaaaaaaa…, the floor's bbbbbbbbbbbb…" in told.words


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_metric_that_is_not_finite_refuses(bad):
    new = candidate("new", 1.0, recall=0.6)
    new.record["metrics"]["recall"] |= {"value": bad}
    decision = judge(candidate("old", recall=0.6), [new], CONFIG)
    assert decision.winner is None and row(decision, "finite").words == "not finite: Recall"
    json.dumps(decision.record(), allow_nan=False)


def test_a_seed_that_is_not_finite_refuses():
    new = candidate("new", 1.0)
    new.record["metrics"]["fd_classifier"]["per_seed"][1] = math.nan
    assert not row(judge(candidate("old"), [new], CONFIG), "finite").passed


def test_a_guarded_metric_may_be_worse_by_its_margin_and_chance_but_no_more():
    config = GateConfig(
        margins={"recall": {"absolute": 0.1}}, noise={"fd_classifier": 0.05, "recall": 0.0}, noise_otherwise=0.0
    )
    for recall, passed in ((0.8, True), (0.51, True), (0.49, False)):
        decision = judge(candidate("old", recall=0.6), [candidate("new", 3.0, recall=recall)], config)
        assert row(decision, "guard", "recall").passed is passed
        assert (decision.winner == "new") is passed
    assert "Recall is 0.490 ± 0.000, the champion's 0.600 ± 0.000: worse by 0.110" in decision.sentence


def test_guards_share_the_level():
    """The allowance of one among five is the two-sided quantile at a fifth of 5 %."""
    noise = {"recall": 0.1, "fd_classifier": 0.0}
    config = GateConfig(margins={key: {"absolute": 0.0} for key in MEANS}, noise=noise, noise_otherwise=0.0)
    models = [Candidate(name, record(MEANS)) for name in ("old", "new")]
    found = row(judge(models[0], models[1:], config), "guard", "recall")
    assert found.margin == pytest.approx(norm.ppf(1 - 0.05 / 5 / 2) * math.sqrt(2) * 0.1 * 0.6)


def test_what_only_one_of_two_families_has_is_not_compared():
    config = GateConfig(margins={"bits_per_dim": {"relative": 0.02}}, noise={"fd_classifier": 0.05})
    decision = judge(candidate("old", bits_per_dim=1.5), [candidate("new", 3.0)], config)
    assert decision.winner == "new"
    assert "not measured of both" in row(decision, "guard", "bits_per_dim").words


def test_copying_refuses_first_and_later_models():
    floor = record({"memorised": 0.012})
    for champion in (None, candidate("old", memorised=0.5)):
        for share, passed in ((0.04, True), (0.05, False)):
            decision = judge(champion, [candidate("new", 3.0, memorised=share)], CONFIG, floor=floor)
            assert row(decision, "memorisation").passed is passed
            assert (decision.winner == "new") is passed
    assert judge(None, [candidate("new", memorised=0.9)], GateConfig(memorised_above_floor=None)).winner == "new"


def test_sentinels_refuse_by_name():
    flags = [{"name": "discriminator_wins", "step": 100, "symptom": "it tells nearly every image", "remedy": "less"}]
    assert judge(candidate("old"), [candidate("new", 3.0, flags=flags)], CONFIG).winner == "new"
    strict = CONFIG.model_copy(update={"refusing_flags": ("discriminator_wins",)})
    decision = judge(candidate("old"), [candidate("new", 3.0, flags=flags)], strict)
    assert decision.winner is None
    assert row(decision, "sentinels").words == "discriminator_wins since step 100: it tells nearly every image"


def test_cost_ceilings_are_factors_of_the_champion_s():
    config = CONFIG.model_copy(update={"costs": GateConfig(costs={"sample_ms": 2}).costs})
    old = candidate("old", sample_ms=[5.0], parameters=[1000.0])
    assert judge(old, [candidate("new", 3.0, sample_ms=[10.0], parameters=[10**7])], config).winner == "new"
    decision = judge(old, [candidate("new", 3.0, sample_ms=[10.1])], config)
    assert decision.winner is None
    assert row(decision, "cost").words == (
        "Sampling costs 10.10, the champion's 5.00: at most 2 times as much is let through"
    )
    assert not row(judge(old, [candidate("new", 3.0)], config), "cost").passed, "a ceiling on what nobody measured"
    assert judge(None, [candidate("new", sample_ms=[99.0])], config).winner == "new", "the first has nobody's cost"


def test_what_hurts_a_classifier_is_refused():
    for verdict, passed in (("helps", True), ("no effect", True), ("hurts", False), ("not applicable", True)):
        told = {"verdict": verdict, "reason": "Accuracy changes by some points."}
        decision = judge(candidate("old"), [candidate("new", 3.0, verdict=told)], CONFIG)
        assert row(decision, "downstream").passed is passed
    assert row(decision, "downstream").words == "to a classifier: not applicable. Accuracy changes by some points"


def test_the_first_model_must_be_better_than_noise():
    noise = record({"fd_classifier": [900.0, 901.0, 902.0]})
    assert judge(None, [candidate("new", 500.0)], CONFIG, noise=noise).winner == "new"
    decision = judge(None, [candidate("new", 900.5)], CONFIG, noise=noise)
    assert decision.winner is None and decision.sentence.startswith("No model becomes champion. new: FD (classifier)")
    assert "noise has 901.0" in decision.sentence
    texts = [Candidate(name, record({"bits_per_byte": bits})) for name, bits in (("gpt", 2.1), ("pretrained", 1.4))]
    first = judge(None, texts, GateConfig())
    assert (first.winner, first.by, first.champion) == ("pretrained", "bits_per_byte", None)
    assert first.sentence.startswith("pretrained becomes the first champion.")


def test_a_higher_metric_counts_as_better_where_it_is():
    config = GateConfig(margins={"recall": {"absolute": 0.0}}, noise_otherwise=0.0, noise={"fd_classifier": 0.01})
    decision = judge(candidate("old", recall=0.6), [candidate("new", 3.0, recall=0.7)], config)
    found = row(decision, "guard", "recall")
    assert found.passed and found.better == "higher" and "better by 0.100" in found.words


def test_dry_runs_are_told_and_nothing_else_changes():
    wet, dry = (judge(candidate("old"), [candidate("new", 3.0)], CONFIG, dry_run=dry) for dry in (False, True))
    assert dry.record() == wet.record() | {
        "dry_run": True,
        "sentence": f"{wet.sentence} This is a dry run: nothing changes.",
    }


def test_record_and_table_hold_every_check():
    floor, noise = record({"memorised": 0.01}), record({"fd_classifier": [900.0, 901.0, 902.0]})
    new = candidate("new", 3.0, recall=0.6, memorised=0.02)
    decision = judge(candidate("old", recall=0.6, memorised=0.02), [new], CONFIG, floor=floor, noise=noise)
    told = json.loads(json.dumps(decision.record(), allow_nan=False))
    assert (told["champion"], told["winner"], told["takes_over"], told["ranked_by"]) == (
        "old",
        "new",
        True,
        "fd_classifier",
    )
    checks = told["challengers"][0]["checks"]
    assert [check["check"] for check in checks] == [
        *("passport", "finite", "improvement", "guard", "memorisation", "sentinels", "downstream")
    ]
    table = decision.frame()
    assert table["check"].tolist() == [check["check"] for check in checks]
    assert table["margin"].dtype == float and table["passed"].all()


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(SimulacraError, match="no challenger"):
        judge(candidate("old"), [], CONFIG)
    with pytest.raises(SimulacraError, match="two models are called 'vae'"):
        judge(candidate("vae"), [candidate("vae", 3.0)], CONFIG)
    broken = candidate("old")
    broken.record["metrics"]["fd_classifier"]["value"] = math.nan
    with pytest.raises(SimulacraError, match=r"the champion's FD \(classifier\) is not finite"):
        judge(broken, [candidate("new")], CONFIG)

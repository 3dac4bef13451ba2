"""Whether a challenger takes over from the champion: one row a check, and a change counts only beyond its noise.

A change of a metric is compared with what chance alone does to it: two trainings that differ in their seed alone, each
judged by samples of a few seeds. Several challengers, and several guarded metrics, share the chance of an error by
Bonferroni's correction, so that its sum stays below 1 − confidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from simulacra.errors import SimulacraError
from simulacra.metrics import METRICS, MISSING, format_value, ranked_by
from simulacra.metrics.passport import differences
from simulacra.retraining.config import GateConfig

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, Any]

COPYING = {"memorised": "memorised_above_floor", "copied_8": "copied_above_floor"}
"""Metrics that tell of copies, and the limits of the configuration on how far above real data's they may be."""


@dataclass(frozen=True)
class Candidate:
    """A model that is to be judged, as its records tell of it.

    Args:
        name: of the model, unlike any other's.
        record: its metrics record; what it cost stands among the metrics.
        flags: the sentinels', as a training record has them.
        verdict: of the stage augment; None where it was not tried.
    """

    name: str
    record: Record
    flags: Sequence[Record] = ()
    verdict: Record | None = None


class Measured(NamedTuple):
    """One metric of one record: mean over seeds of samples, their standard deviation, and their number."""

    value: float
    std: float | None
    n_seeds: int


class Check(NamedTuple):
    """One row of the table: what was looked at, and what came of it.

    Args:
        challenger: whose row it is.
        check: passport, finite, improvement, guard, memorisation, sentinels, cost or downstream.
        metric: a key of `METRICS`; empty where it is about none.
        better: the metric's better direction.
        champion: its value; of a first model that of noise, of copies that of real data.
        champion_std: over the seeds of samples.
        value: the challenger's.
        std: over the seeds of samples.
        margin: what the change is compared with, in the metric's unit.
        passed: whether it speaks for the challenger, or at least not against.
        words: the row as a sentence.
    """

    challenger: str
    check: str
    metric: str
    better: str
    champion: float | None
    champion_std: float | None
    value: float | None
    std: float | None
    margin: float | None
    passed: bool
    words: str


@dataclass(frozen=True)
class Judgement:
    """All checks of one challenger."""

    challenger: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check speaks against it."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class GateDecision:
    """What the gate decides, and why.

    Args:
        champion: name of the present one; None where there is none.
        winner: name of the challenger that takes over; None where none does.
        by: the ranking metric.
        confidence: that chance did not decide.
        dry_run: whether nothing is to come of it.
        judgements: of all challengers, in their order.
    """

    champion: str | None
    winner: str | None
    by: str
    confidence: float
    dry_run: bool
    judgements: tuple[Judgement, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All rows of the table."""
        return tuple(check for judgement in self.judgements for check in judgement.checks)

    @property
    def sentence(self) -> str:
        """What comes of it, in words."""
        if self.winner and self.champion:
            told = f"{self.winner} takes over from {self.champion}."
        elif self.winner:
            told = f"{self.winner} becomes the first champion."
        else:
            told = f"{self.champion} stays champion." if self.champion else "No model becomes champion."
        shown = [judgement for judgement in self.judgements if self.winner in (None, judgement.challenger)]
        told = " ".join([told, *(self._because(judgement) for judgement in shown)])
        return f"{told} This is a dry run: nothing changes." if self.dry_run else told

    def record(self) -> dict[str, Any]:
        """Return the decision, fit for JSON."""
        return {
            "champion": self.champion,
            "winner": self.winner,
            "takes_over": self.winner is not None,
            "dry_run": self.dry_run,
            "ranked_by": self.by,
            "confidence": self.confidence,
            "sentence": self.sentence,
            "challengers": [
                {
                    "name": judgement.challenger,
                    "passed": judgement.passed,
                    "checks": [_for_json(check) for check in judgement.checks],
                }
                for judgement in self.judgements
            ],
        }

    def frame(self) -> "pd.DataFrame":
        """Return the table, one row a check, whose columns are the fields of `Check`."""
        import pandas as pd

        numbers = dict.fromkeys(("champion", "champion_std", "value", "std", "margin"), float)
        return pd.DataFrame(self.checks, columns=Check._fields).astype(numbers)

    def _because(self, judgement: Judgement) -> str:
        """Return what decided about one challenger."""
        if judgement.passed:
            decisive = [check.words for check in judgement.checks if check.check == "improvement"]
        else:
            decisive = [check.words for check in judgement.checks if not check.passed]
        if judgement.passed and judgement.challenger != self.winner:
            decisive = ["passes, but another one is better"]
        return f"{judgement.challenger}: {'; '.join(decisive)}."


class Standard(NamedTuple):
    """What all challengers of one decision are held to.

    Args:
        config: the limits.
        by: the ranking metric.
        n_challengers: that share the chance of a false promotion.
        champion: the present one, if there is any.
        floor: the record of real data, if there is any.
        noise: the record of pure noise, if there is any.
    """

    config: GateConfig
    by: str
    n_challengers: int
    champion: Candidate | None
    floor: Record | None
    noise: Record | None


def judge(
    champion: Candidate | None,
    challengers: Sequence[Candidate],
    config: GateConfig,
    *,
    floor: Record | None = None,
    noise: Record | None = None,
    dry_run: bool = False,
) -> GateDecision:
    """Return which challenger takes over, if any, with every check of every one.

    The best of those that pass wins. A change of the ranking metric counts where it is greater than its margin and than
    its noise at this confidence, two-sided. Where there is no champion, a challenger need only be better than noise.

    Args:
        champion: the present one, judged on the same data under the same passport; None where there is none.
        challengers: those who would take over.
        config: the limits.
        floor: the record of real data against real data.
        noise: the record of pure noise.
        dry_run: told in the record; it changes nothing here.

    Raises:
        SimulacraError: where there are no challengers, two models have one name, or the champion's ranking metric is
            not finite.

    Example:
        >>> def model(name, fd):
        ...     metrics = {"fd_classifier": {"value": fd, "std": 0.1, "per_seed": [fd - 0.1, fd, fd + 0.1]}}
        ...     return Candidate(name, {"metrics": metrics, "passport": {}, "passport_id": "a"})
        >>> config = GateConfig(margins={"fd_classifier": {"relative": 0.05}}, noise={"fd_classifier": 0.03})
        >>> decision = judge(model("old", 5.0), [model("new", 3.0)], config)
        >>> decision.winner, [check.check for check in decision.checks if check.metric]
        ('new', ['improvement'])
    """
    _refuse_unfit(champion, challengers)
    named = challengers if champion is None else [champion, *challengers]
    by = ranked_by({metric for candidate in named for metric in candidate.record["metrics"]})
    if champion is not None and by in champion.record["metrics"] and _measured(champion.record, by) is None:
        raise SimulacraError(
            f"the champion's {METRICS[by].title} is not finite, so nothing can be compared with it; judge it anew by "
            "`kedro run --pipeline retrain --params force=true`"
        )
    standard = Standard(config, by, len(challengers), champion, floor, noise)
    judgements = tuple(Judgement(each.name, tuple(_checks(each, standard))) for each in challengers)
    passed = [each for each, judgement in zip(challengers, judgements, strict=True) if judgement.passed]
    winner = min(passed, key=lambda each: _sign(by) * each.record["metrics"][by]["value"], default=None)
    return GateDecision(
        champion.name if champion else None,
        winner.name if winner else None,
        by,
        config.confidence,
        dry_run,
        judgements,
    )


def nothing_to_judge(champion: Candidate | None, *, dry_run: bool) -> GateDecision:
    """Return the decision where no challenger is another model than the champion."""
    by = ranked_by(champion.record["metrics"] if champion else ())
    return GateDecision(champion.name if champion else None, None, by, 1.0, dry_run, ())


def noise_of_difference(
    before: Measured, after: Measured, *, relative: float, trainings: int | None, level: float
) -> float:
    """Return how large a difference chance alone makes of two models that are equally good, at this two-sided level.

    Both trainings vary by `relative` of the older value, and the mean over n seeds of samples varies by std / √n of
    either model. Each part's variance is an estimate, of trainings − 1 or n − 1 degrees of freedom; the quantile is
    Student's, of the degrees that Welch and Satterthwaite give their sum.

    Args:
        before: the older one's metric.
        after: the newer one's.
        relative: standard deviation over seeds of the training, as a share of the value.
        trainings: how many that was measured by; None for infinitely many.
        level: chance of a larger difference, both signs together.

    Example:
        >>> exact = Measured(10.0, None, 1)
        >>> round(noise_of_difference(exact, exact, relative=0.05, trainings=None, level=0.05), 4)
        1.3859
    """
    from scipy.special import ndtri, stdtrit

    trained = 2 * (relative * before.value) ** 2
    parts = [(trained, math.inf if trainings is None else trainings - 1)]
    parts += [(each.std**2 / each.n_seeds, each.n_seeds - 1) for each in (before, after) if each.std is not None]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    inverse_degrees = sum((part / variance) ** 2 / degrees for part, degrees in parts)
    quantile = stdtrit(1 / inverse_degrees, 1 - level / 2) if inverse_degrees else ndtri(1 - level / 2)
    return float(quantile) * math.sqrt(variance)


def _checks(challenger: Candidate, standard: Standard) -> list[Check]:
    """Return all rows of one challenger; nothing is compared under two passports."""
    rows = [_passport(challenger, standard), _finite(challenger)]
    if all(row.passed for row in rows):
        rows += [_improvement(challenger, standard), *_guards(challenger, standard)]
        rows += _memorisation(challenger, standard)
    return [*rows, *_costs(challenger, standard), _sentinels(challenger, standard), _downstream(challenger, standard)]


def _passport(challenger: Candidate, standard: Standard) -> Check:
    champion = None if standard.champion is None else standard.champion.record
    others = {"the champion's": champion, "the floor's": standard.floor, "the noise's": standard.noise}
    for whose, other in others.items():
        if other is not None and other["passport_id"] != challenger.record["passport_id"]:
            found = differences(challenger.record["passport"], other["passport"], whose)
            told = "; ".join(found) or f"id {challenger.record['passport_id']}, {whose} {other['passport_id']}"
            return _told(challenger, "passport", False, f"measured under another passport: {told}")
    return _told(challenger, "passport", True, "measured under the same passport")


def _finite(challenger: Candidate) -> Check:
    metrics = challenger.record["metrics"]
    bad = [_title(metric) for metric in metrics if _measured(challenger.record, metric) is None]
    words = f"not finite: {', '.join(bad)}" if bad else "all metrics are finite"
    return _told(challenger, "finite", not bad, words)


def _improvement(challenger: Candidate, standard: Standard) -> Check:
    """Compare the ranking metric with the champion's, or with that of noise where there is none."""
    first = standard.champion is None
    reference = standard.noise if standard.champion is None else standard.champion.record
    after = _measured(challenger.record, standard.by)
    before = None if reference is None else _measured(reference, standard.by)
    whose = "noise has" if first else "the champion's"
    if after is None or (before is None and not first):
        words = f"{_title(standard.by)} is not measured of both, so that they cannot be ranked"
        return _row(challenger, "improvement", standard.by, before, after, None, False, words)
    if before is None:
        words = f"{_title(standard.by)} is {_shown(standard.by, after)}, and there is no noise to compare it with"
        return _row(challenger, "improvement", standard.by, None, after, None, True, words)
    config, level = standard.config, (1 - standard.config.confidence) / standard.n_challengers
    relative = 0.0 if first else config.noise_of(standard.by)
    margin = noise_of_difference(before, after, relative=relative, trainings=config.noise_trainings, level=level)
    if not first and standard.by in config.margins:
        margin = max(margin, config.margins[standard.by].of(before.value))
    gain = -_loss(standard.by, before, after)
    words = f"{_change(standard.by, before, after, whose)}, and it takes more than {_shown(standard.by, margin)}"
    return _row(challenger, "improvement", standard.by, before, after, margin, gain > margin, words)


def _guards(challenger: Candidate, standard: Standard) -> list[Check]:
    """Compare every other metric with a margin: it may be worse by that, and by what chance explains."""
    if standard.champion is None:
        return []
    pairs = {
        metric: (_measured(standard.champion.record, metric), _measured(challenger.record, metric))
        for metric in standard.config.margins
        if metric != standard.by
    }
    n_guarded = sum(before is not None and after is not None for before, after in pairs.values())
    rows = []
    for metric, (before, after) in pairs.items():
        if before is not None and after is not None:
            rows.append(_guard(challenger, metric, before, after, standard.config, n_guarded))
        elif before is not None or after is not None:
            words = f"{_title(metric)} is not measured of both, and is not compared"
            rows.append(_row(challenger, "guard", metric, before, after, None, True, words))
    return rows


def _guard(
    challenger: Candidate, metric: str, before: Measured, after: Measured, config: GateConfig, n_guarded: int
) -> Check:
    level = (1 - config.confidence) / n_guarded
    noise = noise_of_difference(
        before, after, relative=config.noise_of(metric), trainings=config.noise_trainings, level=level
    )
    allowed = config.margins[metric].of(before.value) + noise
    change = _change(metric, before, after, "the champion's")
    words = f"{change}, and may be worse by {_shown(metric, allowed)}"
    return _row(challenger, "guard", metric, before, after, allowed, _loss(metric, before, after) <= allowed, words)


def _memorisation(challenger: Candidate, standard: Standard) -> list[Check]:
    """Compare the share of copies with that of real data."""
    rows = []
    for metric, key in COPYING.items():
        limit: float | None = getattr(standard.config, key)
        after = _measured(challenger.record, metric)
        real = None if standard.floor is None else _measured(standard.floor, metric)
        if limit is None or after is None:
            continue
        base = 0.0 if real is None else real.value
        words = (
            f"{_title(metric)} is {_shown(metric, after)}, real data's {_shown(metric, real)}: at most "
            f"{_shown(metric, base + limit)} is let through"
        )
        rows.append(_row(challenger, "memorisation", metric, real, after, limit, after.value <= base + limit, words))
    return rows


def _costs(challenger: Candidate, standard: Standard) -> list[Check]:
    """Compare what has a ceiling with the champion's."""
    rows = []
    ceilings = {} if standard.champion is None else standard.config.costs.model_dump(exclude_none=True)
    for metric, factor in ceilings.items():
        before, after = (_measured(each.record, metric) for each in (standard.champion, challenger) if each)
        if before is None or after is None:
            words = f"{_title(metric)} is not known of both, though costs.{metric} sets a ceiling; set it to null"
            rows.append(_row(challenger, "cost", metric, before, after, None, False, words))
            continue
        ceiling = factor * before.value
        words = (
            f"{_title(metric)} costs {_shown(metric, after)}, the champion's {_shown(metric, before)}: at most "
            f"{factor:g} times as much is let through"
        )
        rows.append(_row(challenger, "cost", metric, before, after, ceiling, after.value <= ceiling, words))
    return rows


def _sentinels(challenger: Candidate, standard: Standard) -> Check:
    raised = [flag for flag in challenger.flags if flag["name"] in standard.config.refusing_flags]
    others = [flag["name"] for flag in challenger.flags if flag not in raised]
    if raised:
        words = "; ".join(f"{flag['name']} since step {flag['step']}: {flag['symptom']}" for flag in raised)
    else:
        words = f"only {', '.join(others)}, which refuse nothing" if others else "no sentinel raised a flag"
    return _told(challenger, "sentinels", not raised, words)


def _downstream(challenger: Candidate, standard: Standard) -> Check:
    if challenger.verdict is None:
        return _told(challenger, "downstream", True, "whether its samples help a classifier was not tried")
    verdict = str(challenger.verdict["verdict"])
    words = f"to a classifier: {verdict}. {challenger.verdict.get('reason', '')}".strip().rstrip(".")
    return _told(challenger, "downstream", verdict not in standard.config.refusing_verdicts, words)


def _told(challenger: Candidate, check: str, passed: bool, words: str) -> Check:
    """Return a row that is about no metric."""
    return Check(challenger.name, check, "", "", None, None, None, None, None, passed, words)


def _row(
    challenger: Candidate,
    check: str,
    metric: str,
    before: Measured | None,
    after: Measured | None,
    margin: float | None,
    passed: bool,
    words: str,
) -> Check:
    """Return a row that is about a metric."""
    one, other = (each or (None, None) for each in (before, after))
    return Check(
        challenger.name,
        check,
        metric,
        METRICS[metric].better,
        one[0],
        one[1],
        other[0],
        other[1],
        margin,
        passed,
        words,
    )


def _measured(record: Record, metric: str) -> Measured | None:
    """Return a metric of a record; None where it is missing or not finite."""
    entry = record["metrics"].get(metric)
    if entry is None or entry["value"] is None:
        return None
    per_seed, std = entry.get("per_seed") or (), entry.get("std")
    numbers = [entry["value"], *per_seed, *([] if std is None else [std])]
    if not all(each is not None and math.isfinite(each) for each in numbers):
        return None
    # A spread over a number of seeds that nobody told is of no use.
    return Measured(float(entry["value"]), None if len(per_seed) < 2 else std, max(1, len(per_seed)))


def _sign(metric: str) -> int:
    """Return 1 where less is better, else −1."""
    return 1 if METRICS[metric].better == "lower" else -1


def _loss(metric: str, before: Measured, after: Measured) -> float:
    """Return by how much the metric has become worse; negative where it is better."""
    return _sign(metric) * (after.value - before.value)


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _shown(metric: str, what: Measured | float | None) -> str:
    if what is None:
        return MISSING
    return format_value(metric, *what[:2]) if isinstance(what, Measured) else format_value(metric, what, None)


def _change(metric: str, before: Measured, after: Measured, whose: str) -> str:
    loss = _loss(metric, before, after)
    direction = "worse" if loss > 0 else "better"
    return (
        f"{_title(metric)} is {_shown(metric, after)}, {whose} {_shown(metric, before)}: "
        f"{direction} by {_shown(metric, abs(loss))}"
    )


def _for_json(check: Check) -> dict[str, Any]:
    """Return a row without the name of the challenger, which stands above it, and without what JSON cannot hold."""
    row = check._asdict()
    del row["challenger"]
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _refuse_unfit(champion: Candidate | None, challengers: Sequence[Candidate]) -> None:
    if not challengers:
        raise SimulacraError(
            "there is no challenger to judge; train one by `kedro run --pipelines train,generate,evaluate`"
        )
    names = [candidate.name for candidate in ([champion] if champion else [])] + [each.name for each in challengers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SimulacraError(f"two models are called {twice!r}; give champion and challengers names of their own")

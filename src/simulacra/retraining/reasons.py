"""Whether it is time to train anew: every reason that was looked at, and what came of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from simulacra.metrics import METRICS, format_value
from simulacra.retraining.config import RetrainingConfig
from simulacra.retraining.gate import Measured, noise_of_difference

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
"""Chance, both signs together, that the spread of samples alone is taken for a decay."""


OF_DATA = ("new data", "drift", "decay", "age")
"""Reasons that data and time give."""


class Drift(NamedTuple):
    """What tests of fresh data against those of the champion's training found, see `drift`.

    Args:
        p: chance of differences as large where there are none, of all tests together.
        moved: names of what differs.
    """

    p: float
    moved: Sequence[str] = ()


class Decay(NamedTuple):
    """The champion's ranking metric when it became champion, and on fresh data.

    Args:
        metric: a key of `METRICS`.
        then: when it became champion.
        now: on fresh data, measured by the same rules.
        floor_then: what real data scored then; None where that is not known.
        floor_now: what real data score now. Where both floors are known, the distances from them are compared, since
            other data have another floor.
    """

    metric: str
    then: Measured
    now: Measured
    floor_then: float | None = None
    floor_now: float | None = None

    @property
    def loss(self) -> float:
        """By how much it has become worse; negative where it is better."""
        known = self.floor_then is not None and self.floor_now is not None
        shift = self.floor_now - self.floor_then if self.floor_now is not None and self.floor_then is not None else 0.0
        change = self.now.value - self.then.value - (shift if known else 0.0)
        return change if METRICS[self.metric].better == "lower" else -change


@dataclass(frozen=True)
class Facts:
    """What is known when it is asked whether to train anew; None is what nobody knows, and no reason for anything.

    Args:
        dataset: its name.
        families: all of the dataset's.
        champion: family of the present champion; None where there is none.
        unchanged: whether data and parameters are those that the champion was made from, to the last byte.
        tried: when the same families were trained by the same data and parameters beside the same champion, and none
            took over.
        new_share: share of today's training data that the champion has not seen.
        drift: of inputs.
        decay: of the champion's ranking metric.
        age_days: since the champion was trained.
    """

    dataset: str
    families: Sequence[str]
    champion: str | None = None
    unchanged: bool | None = None
    tried: str | None = None
    new_share: float | None = None
    drift: Drift | None = None
    decay: Decay | None = None
    age_days: float | None = None


class Reason(NamedTuple):
    """One row of the table.

    Args:
        reason: no champion, forced, no need, new data, drift, decay or age.
        value: what was found; None where nobody knows.
        limit: what it is compared with; None where the reason is switched off or has none.
        retrain: whether it says so.
        words: the row as a sentence.
    """

    reason: str
    value: float | None
    limit: float | None
    retrain: bool
    words: str


@dataclass(frozen=True)
class Decision:
    """Whether to train anew, which families, and why.

    Args:
        dataset: its name.
        families: that are to be trained; empty where none is.
        reasons: all that were looked at.
    """

    dataset: str
    families: tuple[str, ...]
    reasons: tuple[Reason, ...]

    @property
    def retrain(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.families)

    @property
    def because(self) -> list[str]:
        """The reasons that count, in words: those that say so, or why there is no need."""
        if self.retrain:
            return [reason.words for reason in self.reasons if reason.retrain]
        unneeded = [reason.words for reason in self.reasons if reason.reason == "no need" and reason.value]
        data = [reason.words for reason in self.reasons if reason.reason in OF_DATA and reason.value is not None]
        return unneeded or data or ["nothing is known that asks for it"]

    @property
    def sentence(self) -> str:
        """What comes of it, in words."""
        what = f"Train {', '.join(self.families)} on {self.dataset} anew" if self.retrain else ""
        return f"{what or f'Nothing to train on {self.dataset}'}: {'; '.join(self.because)}."

    def record(self) -> dict[str, Any]:
        """Return the decision, fit for JSON."""
        return {
            "dataset": self.dataset,
            "retrain": self.retrain,
            "families": list(self.families),
            "sentence": self.sentence,
            "reasons": [reason._asdict() for reason in self.reasons],
        }

    def frame(self) -> "pd.DataFrame":
        """Return the table, one row a reason, whose columns are the fields of `Reason`."""
        import pandas as pd

        return pd.DataFrame(self.reasons, columns=Reason._fields).astype({"value": float, "limit": float})


def decide(facts: Facts, config: RetrainingConfig) -> Decision:
    """Return whether to train anew, with every reason that was looked at.

    Without a champion, and where it is forced, all else is told but decides nothing. Where data and parameters are
    those of the champion, or of challengers that were refused, a training would make the same models again, and no
    other reason counts.

    Example:
        >>> found = decide(Facts("mnist", ("gmm", "vae"), champion="vae", new_share=0.25), RetrainingConfig())
        >>> found.retrain, found.families, found.sentence
        (True, ('vae',), 'Train vae on mnist anew: 25 % of the data are new, and 10 % are enough.')
    """
    first = [_no_champion(facts), _forced(config), _no_need(facts)]
    others = [_new_data(facts, config), _drift(facts, config), _decay(facts, config), _age(facts, config)]
    if facts.tried or (facts.unchanged and facts.champion is not None):
        others = [reason._replace(retrain=False) for reason in others]
    if facts.tried:
        first[0] = first[0]._replace(retrain=False)
    retrain = any(reason.retrain for reason in (*first, *others))
    default = facts.families if facts.champion is None else (facts.champion,)
    families = tuple(config.families or default) if retrain else ()
    return Decision(facts.dataset, families, (*first, *others))


def _no_champion(facts: Facts) -> Reason:
    words = "there is no champion yet" if facts.champion is None else f"{facts.champion} is champion"
    return Reason("no champion", float(facts.champion is None), None, facts.champion is None, words)


def _forced(config: RetrainingConfig) -> Reason:
    forced = config.when.force
    words = "retraining.when.force asks for it" if forced else "nobody forces it"
    return Reason("forced", float(forced), None, forced, words)


def _no_need(facts: Facts) -> Reason:
    if facts.tried:
        words = f"the same was tried on {facts.tried[:16].replace('T', ' ')} UTC, and no model took over"
        return Reason("no need", 1.0, None, False, words)
    if facts.unchanged is None:
        return Reason("no need", None, None, False, "whether data or parameters have changed is not known")
    if facts.unchanged:
        words = "data and parameters are those that the champion was made from, and would make it again"
    else:
        words = "data or parameters are not those that the champion was made from"
    return Reason("no need", float(facts.unchanged), None, False, words)


def _new_data(facts: Facts, config: RetrainingConfig) -> Reason:
    share, limit = facts.new_share, config.when.new_share
    if share is None:
        return Reason("new data", None, limit, False, "what part of the data is new is not known")
    enough = limit is not None and share > 0 and share >= limit
    told = f"{_percent(share)} of the data are new"
    if limit is not None:
        told += f", and {_percent(limit)} are enough" if enough else f", fewer than {_percent(limit)}"
    return Reason("new data", share, limit, enough, told)


def _drift(facts: Facts, config: RetrainingConfig) -> Reason:
    limit = config.when.drift
    if facts.drift is None:
        return Reason("drift", None, limit, False, "whether inputs have drifted is not known")
    found = limit is not None and facts.drift.p < limit
    p = "p < 0.001" if facts.drift.p < 0.001 else f"p = {facts.drift.p:.3f}"
    moved = f", above all {', '.join(facts.drift.moved)}" if facts.drift.moved else ""
    told = f"fresh data are not like those of the training ({p}{moved})"
    return Reason("drift", facts.drift.p, limit, found, told if found else f"no drift of inputs counts ({p})")


def _decay(facts: Facts, config: RetrainingConfig) -> Reason:
    """Compare the champion with itself: a decay must exceed its margin, and what the spread of samples explains."""
    decay, margin = facts.decay, config.when.decay
    if decay is None or not math.isfinite(decay.loss):
        return Reason("decay", None, None, False, "how the champion does on fresh data is not known")
    limit = None
    if margin is not None:
        noise = noise_of_difference(decay.then, decay.now, relative=0.0, trainings=None, level=LEVEL)
        limit = max(margin.of(decay.then.value), noise)
    worse = limit is not None and decay.loss > limit
    then, now = (format_value(decay.metric, each.value, each.std) for each in (decay.then, decay.now))
    told = f"the champion's {METRICS[decay.metric].title} was {then} and is {now} on fresh data"
    if limit is not None:
        shown = format_value(decay.metric, limit, None)
        told += f", worse by more than {shown}" if worse else f", not worse by more than {shown}"
    return Reason("decay", decay.loss, limit, worse, told)


def _age(facts: Facts, config: RetrainingConfig) -> Reason:
    age, limit = facts.age_days, config.when.max_age_days
    if age is None:
        return Reason("age", None, limit, False, "how old the champion is, is not known")
    old = limit is not None and age > limit
    told = f"the champion is {age:.1f} days old"
    if limit is not None:
        told += f", more than {limit:g}" if old else f", no more than {limit:g}"
    return Reason("age", age, limit, old, told)


def _percent(share: float) -> str:
    """Return a share in percent, a decimal where it is small.

    Example:
        >>> _percent(0.25), _percent(0.004)
        ('25 %', '0.4 %')
    """
    return f"{100 * share:.1f} %" if 0 < share < 0.1 and round(100 * share, 1) % 1 else f"{100 * share:.0f} %"

"""When a curve says that a training goes wrong: the symptom, and what usually helps."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from simulacra.training.history import Callback

logger = logging.getLogger(__name__)


class Rule(NamedTuple):
    """One thing that can go wrong.

    Args:
        symptom: what is seen.
        remedy: what usually helps.
        seen: tells from the values of one point whether it is seen there; None where the point says nothing of it.
        patience: points in a row that must say so.
        early: whether it is judged within the grace too.
    """

    symptom: str
    remedy: str
    seen: Callable[[Mapping[str, float]], bool | None]
    patience: int
    early: bool = True


class Flag(NamedTuple):
    """A rule that was broken, and the step from which on."""

    name: str
    step: int
    symptom: str
    remedy: str


def above(name: str, limit: float) -> Callable[[Mapping[str, float]], bool | None]:
    """Return a test of whether a value exceeds a limit; None where the point has no such value."""
    return lambda values: values[name] > limit if name in values else None


def below(name: str, limit: float) -> Callable[[Mapping[str, float]], bool | None]:
    """Return a test of whether a value falls short of a limit."""
    return lambda values: values[name] < limit if name in values else None


def any_gradient(test: Callable[[float], bool]) -> Callable[[Mapping[str, float]], bool | None]:
    """Return a test of whether one of a point's gradient norms is so."""

    def seen(values: Mapping[str, float]) -> bool | None:
        norms = [value for name, value in values.items() if name.endswith("gradient_norm")]
        return any(map(test, norms)) if norms else None

    return seen


GRACE = 0.2
"""Share of a training's steps that are not judged by samples or by the discriminator's win rate: what is untrained
looks collapsed, and any discriminator tells it."""

COLLAPSE_REMEDY = (
    "for a GAN lower the discriminator's advantage (model.r1, model.spectral_norm, model.diffaug, model.n_critic=1) or "
    "set model.objective=wasserstein with model.gradient_penalty=10; for others raise the temperature or train longer"
)

RULES: dict[str, Rule] = {
    "mode_collapse": Rule(
        "most samples are near copies of one another",
        COLLAPSE_REMEDY,
        above("near_duplicates", 0.5),
        patience=2,
        early=False,
    ),
    "missing_kinds": Rule(
        "samples keep to a few of the data's classes or clusters",
        COLLAPSE_REMEDY,
        below("relative_kinds", 0.5),
        patience=2,
        early=False,
    ),
    "discriminator_wins": Rule(
        "the discriminator tells nearly every image, so that the generator learns nothing from it",
        "lower model.discriminator_rate or model.n_critic, or use model.r1, model.spectral_norm or model.diffaug",
        above("discriminator_win_rate", 0.99),
        patience=20,
        early=False,
    ),
    "gradients_vanish": Rule(
        "gradients have become too small to move the weights",
        "raise training.learning_rate, or look for a saturated activation or objective",
        any_gradient(lambda norm: norm < 1e-7),
        patience=10,
    ),
    "gradients_explode": Rule(
        "gradients are so large that clipping decides every step, or nothing does",
        "lower training.learning_rate, lengthen training.warmup_steps, or set training.gradient_clip=1 or "
        "training.precision=fp32",
        any_gradient(lambda norm: norm > 1e4 or not math.isfinite(norm)),
        patience=10,
    ),
    "diverges": Rule(
        "the loss is higher than it was at the beginning",
        "lower training.learning_rate, or set training.gradient_clip=1 or training.precision=fp32",
        above("loss_rise", 0.0),
        patience=10,
    ),
}


class Sentinel:
    """Hears the points of the curves, and raises each flag once.

    Args:
        grace: steps at the beginning that only the rules for `early` ones judge, see `GRACE`, and beside whose losses
            later ones are judged.

    Example:
        >>> sentinel = Sentinel(grace=0)
        >>> for step in (100, 200):
        ...     raised = sentinel(step, "samples", {"near_duplicates": 0.9})
        >>> [flag.name for flag in sentinel.flags]
        ['mode_collapse']
    """

    def __init__(self, *, grace: int) -> None:
        self.grace = grace
        self.flags: list[Flag] = []
        self._runs = dict.fromkeys(RULES, 0)
        self._highest_loss = -math.inf

    def __call__(self, step: int, split: str, values: Mapping[str, float]) -> list[Flag]:
        """Take one point, and return the flags that it raises."""
        if split == "validation":
            return []
        values = self._with_rise(step, values) if split == "train" and "loss" in values else values
        judged = [name for name, rule in RULES.items() if rule.early or step > self.grace]
        return self._raise(step, [name for name in judged if self._count(name, values) == RULES[name].patience])

    def conclude(self, step: int, values: Mapping[str, float]) -> list[Flag]:
        """Take the last look at samples, which needs no patience, and return the flags that it raises."""
        return self._raise(step, [name for name, rule in RULES.items() if rule.seen(values)])

    def _with_rise(self, step: int, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return the values with how far the loss is above all that it was in the grace, once that is over."""
        if step <= self.grace:
            self._highest_loss = max(self._highest_loss, values["loss"])
            return values
        known = math.isfinite(self._highest_loss)
        return {**values, "loss_rise": values["loss"] - self._highest_loss} if known else values

    def _count(self, name: str, values: Mapping[str, float]) -> int:
        """Return how many points in a row say so, up to this one; 0 where it says nothing of it."""
        seen = RULES[name].seen(values)
        if seen is not None:
            self._runs[name] = self._runs[name] + 1 if seen else 0
        return self._runs[name] if seen else 0

    def _raise(self, step: int, names: Sequence[str]) -> list[Flag]:
        known = {flag.name for flag in self.flags}
        raised = [Flag(name, step, RULES[name].symptom, RULES[name].remedy) for name in names if name not in known]
        self.flags += raised
        return raised


def alarm(sentinel: Sentinel, title: str, others: Sequence[Callback]) -> Callback:
    """Return a callback that warns of every flag when it is raised, and tells the other callbacks, as a point of 1.

    Args:
        sentinel: hears the points.
        title: what is trained.
        others: hear of it as the split "flags".
    """

    def hear(step: int, split: str, values: Mapping[str, float]) -> None:
        for flag in sentinel(step, split, values):
            logger.warning("%s, step %d: %s. Remedy: %s.", title, flag.step, flag.symptom, flag.remedy)
            for other in others:
                other(step, "flags", {flag.name: 1.0})

    return hear

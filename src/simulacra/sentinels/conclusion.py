"""The last look at a family that was fitted: every flag that its curves raise, and its samples."""

from typing import Any, Protocol

from simulacra.data.image_set import ImageSet
from simulacra.sentinels.rules import GRACE, Sentinel
from simulacra.sentinels.samples import SampleWatch
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History


def raised(history: History, training: TrainingConfig) -> list[dict[str, Any]]:
    """Return every flag that the curves of a fit raise."""
    sentinel = Sentinel(grace=round(GRACE * training.steps))
    history.replay(sentinel)
    return [flag._asdict() for flag in sentinel.flags]


class Samples(Protocol):
    """Whatever draws samples."""

    def sample(self, n: int, *, seed: int) -> ImageSet:
        """Return n images."""


def conclude(history: History, model: Samples, data: ImageSet, training: TrainingConfig, seed: int) -> dict[str, Any]:
    """Look at samples of the fitted model, and gather every flag of its curves and of this look.

    Args:
        history: the curves of the fit; families in closed form have none.
        model: the fitted model.
        data: the training images.
        training: the budget of the fit.
        seed: of the samples.

    Returns:
        {"samples": what `SampleWatch.look` saw, "flags": a list of flags as mappings}.
    """
    sentinel = Sentinel(grace=round(GRACE * training.steps))
    history.replay(sentinel)
    watch = SampleWatch(data, n=training.watch_samples)
    seen = watch.look(model.sample(watch.n, seed=seed))
    sentinel.conclude(max((point["step"] for point in history.points), default=0), seen)
    return {"samples": seen, "flags": [flag._asdict() for flag in sentinel.flags]}

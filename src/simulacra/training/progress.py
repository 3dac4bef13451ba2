"""A progress bar on a terminal; elsewhere one log line now and then."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 20.0

SAMPLED: ContextVar[str] = ContextVar("SAMPLED", default="")
"""What is being sampled while somebody waits for it; empty for quick looks at samples, of which nothing is shown."""


class Progress:
    """Shows step, loss, speed and time left.

    Args:
        title: what is being trained, or sampled.
        done: steps that are already complete.
        steps: steps in all.
        hidden: whether to say nothing, for all but one of several processes.
        losses: whether losses are among what is told; those of some steps only.

    Example:
        >>> with Progress("vae", done=0, steps=2) as progress:
        ...     progress.advance(loss=1.5)
    """

    def __init__(self, title: str, *, done: int, steps: int, hidden: bool = False, losses: bool = True) -> None:
        # None leaves it to tqdm, which shows a bar on terminals only.
        disable = True if hidden else None
        self.bar: tqdm[Any] = tqdm(total=steps, initial=done, desc=title, unit="step", disable=disable, leave=False)
        self.title, self.steps, self.hidden, self.losses = title, steps, hidden, losses
        self.done = self.first = done
        self.began = self.spoken = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def advance(self, loss: float | None = None) -> None:
        """Count one step; a loss is given whenever one has been read from the device."""
        self.done += 1
        self.bar.update(1)
        if loss is None and self.losses:
            return
        told = "" if loss is None else f"loss {loss:.4g}, "
        if told:
            self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        if self.bar.disable and not self.hidden and time.monotonic() - self.spoken > SECONDS_BETWEEN_LINES:
            self._speak(told)

    def over(self, steps: Iterable[T]) -> Iterator[T]:
        """Yield each of these, and count it as a step."""
        for step in steps:
            yield step
            self.advance()

    def _speak(self, told: str) -> None:
        self.spoken = time.monotonic()
        speed = (self.done - self.first) / (self.spoken - self.began)
        logger.info(
            "%s: step %d of %d, %s%.1f steps/s, %.0f s left",
            *(self.title, self.done, self.steps, told, speed, (self.steps - self.done) / speed),
        )


@contextmanager
def announced(title: str) -> Iterator[None]:
    """Let samplers that are called meanwhile show how far they are."""
    token = SAMPLED.set(title)
    try:
        yield
    finally:
        SAMPLED.reset(token)


def sampling(steps: int) -> Progress:
    """Return the progress of a sampler of so many steps; it shows nothing unless it was announced."""
    title = SAMPLED.get()
    return Progress(title, done=0, steps=steps, hidden=not title, losses=False)

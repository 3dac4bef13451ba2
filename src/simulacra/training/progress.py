"""A progress bar on a terminal; elsewhere one log line now and then."""

import logging
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Shows step, loss, speed and time left.

    Args:
        title: what is being trained.
        done: steps that are already complete.
        steps: steps in all.
        hidden: whether to say nothing, for all but one of several processes.

    Example:
        >>> with Progress("vae", done=0, steps=2) as progress:
        ...     progress.advance(loss=1.5)
    """

    def __init__(self, title: str, *, done: int, steps: int, hidden: bool = False) -> None:
        # None leaves it to tqdm, which shows a bar on terminals only.
        disable = True if hidden else None
        self.bar: tqdm[Any] = tqdm(total=steps, initial=done, desc=title, unit="step", disable=disable, leave=False)
        self.title, self.steps, self.hidden = title, steps, hidden
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
        if loss is None:
            return
        self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        if self.bar.disable and not self.hidden and time.monotonic() - self.spoken > SECONDS_BETWEEN_LINES:
            self._speak(loss)

    def _speak(self, loss: float) -> None:
        self.spoken = time.monotonic()
        speed = (self.done - self.first) / (self.spoken - self.began)
        logger.info(
            "%s: step %d of %d, loss %.4g, %.1f steps/s, %.0f s left",
            *(self.title, self.done, self.steps, loss, speed, (self.steps - self.done) / speed),
        )

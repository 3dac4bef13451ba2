"""The curves of one fit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Callback = Callable[[int, str, Mapping[str, float]], object]
"""Called with (step, "train", "validation" or "samples", values) whenever a point of a curve is known."""

LISTENER: ContextVar[Callback | None] = ContextVar("listener", default=None)
"""Who hears the curves of a family that is fitted in this context, beside the callbacks that its caller gave."""


@contextmanager
def overheard(callbacks: Sequence[Callback]) -> Iterator[list[Callback]]:
    """Lend the callbacks together with the context's listener, who hears of no training inside this one by itself."""
    listener, token = LISTENER.get(), LISTENER.set(None)
    try:
        yield [*callbacks, listener] if listener else [*callbacks]
    finally:
        LISTENER.reset(token)


@dataclass
class History:
    """Curves in long form, and the facts of the fit that a reader of its result asks for.

    Example:
        >>> history = History()
        >>> history.add(10, "train", {"loss": 0.5})
        >>> history.frame().columns.tolist()
        ['step', 'split', 'name', 'value']
    """

    points: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append one point per named value."""
        self.points += [{"step": step, "split": split, "name": name, "value": value} for name, value in values.items()]

    def replay(self, callback: Callback) -> None:
        """Tell a callback every point, as it would have heard them."""
        for (step, split), points in groupby(self.points, key=lambda point: (point["step"], point["split"])):
            callback(step, split, {point["name"]: point["value"] for point in points})

    def frame(self) -> "pd.DataFrame":
        """Return the points as a table with the columns step, split, name, value."""
        import pandas as pd

        return pd.DataFrame(self.points, columns=["step", "split", "name", "value"])

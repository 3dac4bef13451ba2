"""What lies between noise and image: a few of a sampler's states, and what the network takes each of them for."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simulacra.diffusion.samplers import State
from simulacra.diffusion.schedules import Level

Picture = Callable[[Tensor], NDArray[np.uint8]]
"""Turns states (n, …) into pixels (n, channels, height, width)."""


class Film:
    """The first images of a draw on their way from noise, at some of the steps, about evenly spaced.

    Args:
        rows: how many images, at most.
        columns: how many states of each, at most; noise and the image itself are among them.

    Attributes:
        steps: how many steps had been taken at each state that was kept.
        states: the states' pixels, (rows, channels, height, width) each; noise is scaled to where pixels lie.
        estimates: what the network took each state for; the last is the image.
    """

    def __init__(self, rows: int = 5, columns: int = 10) -> None:
        self.rows, self.columns = rows, columns
        self.steps: list[int] = []
        self.states: list[NDArray[np.uint8]] = []
        self.estimates: list[NDArray[np.uint8]] = []

    def watch(
        self, x: Tensor, level: Level, states: Iterable[State], *, n_steps: int, picture: Picture
    ) -> Iterator[State]:
        """Yield a sampler's states as they come, and keep some of them.

        Args:
            x: what the sampler began with, (n, …).
            level: its level.
            states: the sampler's.
            n_steps: how many there will be.
            picture: makes pixels of states.
        """
        wanted = set(np.linspace(0, n_steps, min(self.columns, n_steps + 1)).round().astype(int).tolist())
        for step, state in enumerate(states):
            # A state comes with the estimate that led to it, which is of the state before.
            if step in wanted:
                self._keep(step, x, level, state.x0, picture)
            x, level = state.x, state.level
            yield state
        self._keep(n_steps, x, level, x, picture)

    def _keep(self, step: int, x: Tensor, level: Level, x0: Tensor, picture: Picture) -> None:
        scale = (level.alpha.square() + level.sigma.square()).rsqrt()
        self.steps.append(step)
        self.states.append(picture(scale * x[: self.rows]))
        self.estimates.append(picture(x0[: self.rows]))

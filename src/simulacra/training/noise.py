"""Random numbers of a training step as a pure function of seed and step, whoever draws them."""

import numpy as np
import torch
from torch import Tensor


class Noise:
    """Draws for a batch; a process that holds a share of the batch's rows gets just their share of the numbers.

    Torch's global generator would make a step depend on every number drawn before it, on the number of processes and
    on other threads. These depend on seed, step and order of the calls only, so that nothing needs to be kept for a
    training to go on exactly, and N processes see what one would see.

    Args:
        seed: of the run.
        step: optimiser step, or another counter.
        device: where the numbers are made; each kind of device has its own.
        rank: which share of the rows this process holds.
        world: how many shares there are.

    Example:
        >>> first, second = Noise(0, step=3), Noise(0, step=3)
        >>> bool((first.normal(4, 2) == second.normal(4, 2)).all())
        True
    """

    def __init__(
        self, seed: int, step: int = 0, *, device: torch.device | str = "cpu", rank: int = 0, world: int = 1
    ) -> None:
        number = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]) >> 1
        self._generator = torch.Generator(device).manual_seed(number)
        self._device, self._rank, self._world = device, rank, world

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers; the first dimension counts this process's rows."""
        return self._mine(torch.randn(self._whole(shape), generator=self._generator, device=self._device), shape[0])

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1)."""
        return self._mine(torch.rand(self._whole(shape), generator=self._generator, device=self._device), shape[0])

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return whole numbers from 0 to high − 1."""
        drawn = torch.randint(high, self._whole(shape), generator=self._generator, device=self._device)
        return self._mine(drawn, shape[0])

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self._world, *shape[1:])

    def _mine(self, drawn: Tensor, rows: int) -> Tensor:
        return drawn[self._rank * rows : (self._rank + 1) * rows]

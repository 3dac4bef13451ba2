"""Batches as a pure function of data, seed and step, so that a resumed run sees what it would have seen."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.training.noise import Noise


@dataclass(frozen=True)
class Batch:
    """One step's examples, or one process's share of them.

    Args:
        x: the examples; for images float32 in [-1, 1], (n, channels, height, width).
        y: class indices (n,), or None.
        step: the optimiser step that the batch is for, counted from 0.
        noise: where a loss takes its random numbers from, and nowhere else.
    """

    x: Tensor
    y: Tensor | None
    step: int = 0
    noise: Noise = field(default_factory=lambda: Noise(0))


def to_float(images: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(x: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 pixels, rounding and clipping."""
    return x.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class ImageBatches:
    """Shuffled batches of an image set that lies whole in the device's memory as uint8.

    Args:
        data: the images.
        batch_size: examples a step, over all processes.
        seed: decides order and noise.
        device: where the batches lie.
        rank: which share of each batch this process holds.
        world: how many processes share a batch.

    Raises:
        SimulacraError: where the batch cannot be shared out evenly.

    Example:
        >>> import numpy as np
        >>> data = ImageSet(np.zeros((10, 1, 4, 4), np.uint8))
        >>> ImageBatches(data, batch_size=4, seed=0).at(0).x.shape
        torch.Size([4, 1, 4, 4])
    """

    def __init__(
        self,
        data: ImageSet,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.batch_size = min(batch_size, len(data))
        if self.batch_size % world:
            raise SimulacraError(
                f"training.batch_size is {self.batch_size} here, which {world} processes cannot share evenly; "
                "make it a multiple of training.processes × training.hosts"
            )
        self.images = torch.from_numpy(data.images).to(device)
        self.labels = None if data.labels is None else torch.from_numpy(data.labels).to(device)
        self.seed, self.rank, self.world = seed, rank, world
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the data; the rest of an epoch is dropped."""
        return len(self.images) // self.batch_size

    def at(self, step: int) -> Batch:
        """Return the batch of the given step, or this process's share of it."""
        epoch, position = divmod(step, self.steps_per_epoch)
        share = self.batch_size // self.world
        first = position * self.batch_size + self.rank * share
        return self._batch(self._epoch_order(epoch)[first : first + share], step)

    def in_order(self) -> Iterator[Batch]:
        """Yield all rows once, unshuffled, the last batch being shorter; their noise is the same each time."""
        for number, rows in enumerate(torch.split(torch.arange(len(self.images)), self.batch_size)):
            yield self._batch(rows, number)

    def _batch(self, rows: Tensor, step: int) -> Batch:
        rows = rows.to(self.images.device)
        noise = Noise(self.seed, step, device=self.images.device, rank=self.rank, world=self.world)
        return Batch(to_float(self.images[rows]), None if self.labels is None else self.labels[rows], step, noise)

    def _epoch_order(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.images), generator=generator))
        return self._order[1]

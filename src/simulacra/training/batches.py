"""Batches as a pure function of data, seed and step, so that a resumed run sees what it would have seen."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulacra.data.image_set import ImageSet
from simulacra.data.token_set import TokenSet
from simulacra.errors import SimulacraError
from simulacra.training.noise import Noise


@dataclass(frozen=True)
class Batch:
    """One step's examples, or one process's share of them.

    Args:
        x: the examples: of images float32 in [-1, 1], (n, channels, height, width); of text tokens, (n, context + 1).
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


class Batches(ABC):
    """Batches of some data: which examples a step sees, and the noise that belongs to it.

    Args:
        batch_size: examples a step, over all processes.
        seed: decides order and noise.
        device: where the batches lie.
        rank: which share of each batch this process holds.
        world: how many processes share a batch.

    Raises:
        SimulacraError: where the batch cannot be shared out evenly.
    """

    def __init__(
        self, *, batch_size: int, seed: int, device: torch.device | str = "cpu", rank: int = 0, world: int = 1
    ) -> None:
        if batch_size % world:
            raise SimulacraError(
                f"training.batch_size is {batch_size} here, which {world} processes cannot share evenly; "
                "make it a multiple of training.processes × training.hosts"
            )
        self.batch_size, self.seed, self.device, self.rank, self.world = batch_size, seed, device, rank, world

    @abstractmethod
    def __len__(self) -> int:
        """Count the examples that `in_order` yields."""

    @abstractmethod
    def at(self, step: int) -> Batch:
        """Return the batch of the given step, or this process's share of it."""

    @abstractmethod
    def in_order(self) -> Iterator[Batch]:
        """Yield examples unshuffled, the last batch being shorter; they and their noise are the same each time."""

    def _noise(self, step: int) -> Noise:
        return Noise(self.seed, step, device=self.device, rank=self.rank, world=self.world)


class ImageBatches(Batches):
    """Shuffled batches of an image set that lies whole in the device's memory as uint8.

    Args:
        data: the images.
        batch_size: examples a step; all of the images where there are fewer.
        options: as of `Batches`.

    Example:
        >>> import numpy as np
        >>> data = ImageSet(np.zeros((10, 1, 4, 4), np.uint8))
        >>> ImageBatches(data, batch_size=4, seed=0).at(0).x.shape
        torch.Size([4, 1, 4, 4])
    """

    def __init__(self, data: ImageSet, *, batch_size: int, **options: Any) -> None:
        super().__init__(batch_size=min(batch_size, len(data)), **options)
        self.images = torch.from_numpy(data.images).to(self.device)
        self.labels = None if data.labels is None else torch.from_numpy(data.labels).to(self.device)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

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
        """Yield all images once, unshuffled, the last batch being shorter; their noise is the same each time."""
        for number, rows in enumerate(torch.split(torch.arange(len(self.images)), self.batch_size)):
            yield self._batch(rows, number)

    def _batch(self, rows: Tensor, step: int) -> Batch:
        rows = rows.to(self.images.device)
        labels = None if self.labels is None else self.labels[rows]
        return Batch(to_float(self.images[rows]), labels, step, self._noise(step))

    def _epoch_order(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.images), generator=generator))
        return self._order[1]


VALIDATED = 512
"""Examples of a long text that a pass over it takes, evenly spread."""


class TokenBatches(Batches):
    """Batches of windows that begin anywhere in a row of tokens, which stays where it is, be it on disk.

    An example x is context + 1 tokens, each of which but the first is to be foretold.

    Args:
        data: the tokens.
        options: as of `Batches`.

    Example:
        >>> import numpy as np
        >>> data = TokenSet(np.arange(100, dtype=np.uint16), context=8)
        >>> TokenBatches(data, batch_size=4, seed=0).at(0).x.shape
        torch.Size([4, 9])
    """

    def __init__(self, data: TokenSet, **options: Any) -> None:
        super().__init__(**options)
        self.data = data

    def __len__(self) -> int:
        """Count the windows of a pass."""
        return min(VALIDATED, len(self.data))

    def at(self, step: int) -> Batch:
        """Return the windows of the given step, or this process's share of them."""
        last = len(self.data.ids) - self.data.context
        starts = np.random.default_rng([self.seed, step]).integers(last, size=self.batch_size)
        share = self.batch_size // self.world
        return self._batch(starts[self.rank * share : (self.rank + 1) * share], step)

    def in_order(self) -> Iterator[Batch]:
        """Yield windows that do not overlap, all or `VALIDATED` of them, the last batch being shorter."""
        rows = np.linspace(0, len(self.data) - 1, len(self)).astype(np.int64) * self.data.context
        for number, start in enumerate(range(0, len(rows), self.batch_size)):
            yield self._batch(rows[start : start + self.batch_size], number)

    def _batch(self, starts: NDArray[np.int64], step: int) -> Batch:
        return Batch(torch.from_numpy(self.data.windows(starts)).to(self.device), None, step, self._noise(step))


Examples = ImageSet | TokenSet
"""What the loop can be given to learn from."""


def batches_of(data: Examples, **options: Any) -> Batches:
    """Return the batches of any kind of data; the options are those of `Batches`."""
    return ImageBatches(data, **options) if isinstance(data, ImageSet) else TokenBatches(data, **options)

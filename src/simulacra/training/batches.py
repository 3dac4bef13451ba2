"""Batches as a pure function of data, seed and step, so that a resumed run sees what it would have seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulacra.data.image_set import ImageSet


@dataclass(frozen=True)
class Batch:
    """One step's examples.

    Args:
        x: the examples; for images float32 in [-1, 1], (n, channels, height, width).
        y: class indices (n,), or None.
        step: the optimiser step that the batch is for, counted from 0.
    """

    x: Tensor
    y: Tensor | None
    step: int = 0


def to_float(images: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(x: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 pixels, rounding and clipping."""
    return x.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class ImageBatches:
    """Shuffled batches of an image set that lies whole in the device's memory as uint8.

    Example:
        >>> import numpy as np
        >>> data = ImageSet(np.zeros((10, 1, 4, 4), np.uint8))
        >>> ImageBatches(data, batch_size=4, seed=0).at(0).x.shape
        torch.Size([4, 1, 4, 4])
    """

    def __init__(self, data: ImageSet, *, batch_size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.images = torch.from_numpy(data.images).to(device)
        self.labels = None if data.labels is None else torch.from_numpy(data.labels).to(device)
        self.batch_size = min(batch_size, len(data))
        self.seed = seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the data; the rest of an epoch is dropped."""
        return len(self.images) // self.batch_size

    def at(self, step: int) -> Batch:
        """Return the batch of the given step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self._epoch_order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        return self._batch(rows, step)

    def in_order(self) -> list[Batch]:
        """Return all rows once, unshuffled, the last batch being shorter."""
        return [self._batch(rows, 0) for rows in torch.split(torch.arange(len(self.images)), self.batch_size)]

    def _batch(self, rows: Tensor, step: int) -> Batch:
        rows = rows.to(self.images.device)
        return Batch(to_float(self.images[rows]), None if self.labels is None else self.labels[rows], step)

    def _epoch_order(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.images), generator=generator))
        return self._order[1]

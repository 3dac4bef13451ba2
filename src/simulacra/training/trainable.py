"""What the training loop asks of a network."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from simulacra.training.batches import Batch


class Trainable(nn.Module, ABC):
    """A network that knows its own loss."""

    bf16_pays_on_cpu = False
    """Whether `precision: auto` may choose bf16 on a CPU that has the instructions; decided by measurement."""
    channels_last_pays = False
    """Whether `channels_last: auto` means yes: convolutions gain by (n, h, w, c) memory, some normalisations lose."""

    def settings(self) -> dict[str, Any]:
        """Return the JSON-able hyper-parameters that an interrupted training must be gone on with."""
        return {}

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars; `loss` is minimised and every entry becomes a curve."""

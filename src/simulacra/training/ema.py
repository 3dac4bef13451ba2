"""Exponential moving average of weights (Polyak & Juditsky, 1992)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Ema:
    """A running average of a module's floating-point state.

    The decay grows from 0.1 to its final value, (1 + t) / (10 + t), so that early steps do not linger.

    Args:
        module: whose state is averaged.
        decay: share of the average that a step keeps.
        averages: tells by its key whether an entry is averaged; the others, and integers, are copied.

    Example:
        >>> ema = Ema(nn.Linear(2, 2), decay=0.99)
        >>> sorted(ema.state)
        ['bias', 'weight']
    """

    def __init__(self, module: nn.Module, decay: float, averages: Callable[[str], bool] = lambda key: True) -> None:
        self.decay, self.averages = decay, averages
        self.state: dict[str, Tensor] = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's present weights."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            if value.is_floating_point() and self.averages(key):
                self.state[key].lerp_(value, weight)
            else:
                self.state[key].copy_(value)

"""Exponential moving average of weights (Polyak & Juditsky, 1992)."""

import torch
from torch import Tensor, nn


class Ema:
    """A running average of a module's floating-point state.

    The decay grows from 0.1 to its final value, (1 + t) / (10 + t), so that early steps do not linger.

    Example:
        >>> ema = Ema(nn.Linear(2, 2), decay=0.99)
        >>> sorted(ema.state)
        ['bias', 'weight']
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's present weights; integers are copied."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, weight)
            else:
                self.state[key].copy_(value)

"""The U-Net's counterpart for vectors: residual layers that are told a time and a condition."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.nn.unet import TimeCondition


class VectorBlock(nn.Module):
    """Two linear layers beside the identity, scaled and shifted between them by time and condition.

    Example:
        >>> VectorBlock(8, told=16)(torch.zeros(2, 8), torch.zeros(2, 16)).shape
        torch.Size([2, 8])
    """

    def __init__(self, width: int, *, told: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.film = nn.Linear(told, 2 * width)
        for layer in (self.film, self.second):  # the block begins as the identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Map (n, width) to the same shape."""
        scale, shift = self.film(told).chunk(2, dim=1)
        h = self.first(F.silu(self.norm(x)))
        return x + self.second(F.silu(torch.addcmul(h + shift, h, scale)))  # type: ignore[no-any-return]


class ResidualMLP(nn.Module):
    """Vector, time and condition to a vector of the same size.

    Args:
        dim: of the vectors.
        width: of the layers.
        blocks: residual blocks.
        condition_dim: coordinates of the condition; 0 for none.

    Example:
        >>> ResidualMLP(3, width=8, condition_dim=5)(torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 5)).shape
        torch.Size([2, 3])
    """

    def __init__(self, dim: int, *, width: int, blocks: int = 3, condition_dim: int = 0) -> None:
        super().__init__()
        self.told = TimeCondition(width, condition_dim)
        self.stem = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(VectorBlock(width, told=width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, clock: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map vectors (n, dim), times (n,) and conditions (n, condition_dim) to (n, dim)."""
        h, told = self.stem(x), self.told(clock, condition)
        for block in self.blocks:
            h = block(h, told)
        return self.head(F.silu(self.norm(h))).float()  # type: ignore[no-any-return]

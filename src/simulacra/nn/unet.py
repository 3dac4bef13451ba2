"""Compact U-Net with attention that is told a time and a condition: Ronneberger et al. (2015), Ho et al. (2020).

Leaner than the original for a CPU's sake: one normalisation a block, and the way up adds what the way down kept instead
of joining it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.nn.attention import ChannelNorm, SelfAttention


def sinusoids(clock: Tensor, dim: int) -> Tensor:
    """Return cosines and sines of times in [0, 1] at frequencies from 1,000 down to 0.1, (n,) to (n, dim).

    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.5, for positions from 0 to 1,000.
    """
    frequencies = 1000 * torch.exp(-math.log(10_000) * torch.arange(dim // 2, device=clock.device) / (dim // 2))
    angles = clock.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def waves(x: Tensor, powers: Sequence[int]) -> Tensor:
    """Return sin and cos of 2^k π x, (…, c) to (…, c · 2 · len(powers)).

    A network hardly sees one grey level in an image that goes from -1 to 1, and a likelihood is made of them.
    Source: Kingma et al. (2021), arXiv:2107.00630, appendix C.
    """
    frequencies = torch.tensor([2**power * math.pi for power in powers for _ in range(2)], device=x.device)
    phases = torch.tensor([0, math.pi / 2] * len(powers), device=x.device)
    return torch.addcmul(phases, x[..., None], frequencies).sin().flatten(-2)


class ClassEmbedding(nn.Module):
    """A learnt vector a class, and one for "no class in particular", which guidance needs.

    Args:
        n_classes: classes; the null class has this index.
        dim: coordinates of a vector.

    Example:
        >>> ClassEmbedding(3, 8)(torch.tensor([0, 3])).shape
        torch.Size([2, 8])
    """

    def __init__(self, n_classes: int, dim: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.table = nn.Embedding(n_classes + 1, dim)

    def forward(self, y: Tensor) -> Tensor:
        """Map class indices (n,) to vectors (n, dim)."""
        return self.table(y)  # type: ignore[no-any-return]

    def null(self, n: int) -> Tensor:
        """Return n indices of the null class."""
        return torch.full((n,), self.n_classes, device=self.table.weight.device)


class TimeCondition(nn.Module):
    """One vector of time and condition together.

    Args:
        dim: of the vector.
        condition_dim: of the condition; 0 for none.

    Example:
        >>> TimeCondition(8, 0)(torch.zeros(2), None).shape
        torch.Size([2, 8])
    """

    def __init__(self, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.condition = nn.Linear(condition_dim, dim) if condition_dim else None

    def forward(self, clock: Tensor, condition: Tensor | None) -> Tensor:
        """Map times (n,) in [0, 1] and conditions (n, condition_dim) to (n, dim)."""
        found = self.first(sinusoids(clock, self.dim))
        if self.condition is not None and condition is not None:
            found = found + self.condition(condition)
        return F.silu(self.second(F.silu(found)))


class Block(nn.Module):
    """Two 3×3 convolutions beside the identity, scaled and shifted between them by time and condition.

    Example:
        >>> Block(8, told=16)(torch.zeros(2, 8, 5, 5), torch.zeros(2, 16)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int, *, told: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(told, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for layer in (self.film, self.second):  # the block begins as the identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        scale, shift = self.film(told)[:, :, None, None].chunk(2, dim=1)
        h = self.first(F.silu(self.norm(x)))
        return x + self.second(F.silu(torch.addcmul(shift, h, 1 + scale)))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Image, time and condition to an image of the same shape, whatever its size.

    The first and the last convolution are always computed in fp32: in bf16 two grey levels near white are one number.

    Args:
        channels: of the image.
        width: channels of the finest level.
        multipliers: factor of the width at each level, the finest first; one halving between each two.
        blocks: residual blocks a level, on the way down and up each.
        heads: of the attention between the pixels of the coarsest level; 0 for none.
        patch: side of the squares of pixels that the network works on as one; 1 for single pixels.
        detail: the k of the 2^k π x whose waves are shown beside x; may be none.
        condition_dim: coordinates of the condition; 0 for none.

    Example:
        >>> net = UNet(1, width=8, multipliers=(1, 2, 2), heads=2, condition_dim=5)
        >>> net(torch.zeros(2, 1, 28, 28), torch.zeros(2), torch.zeros(2, 5)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        heads: int = 4,
        patch: int = 1,
        detail: Sequence[int] = (),
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        self.patch, self.detail = patch, tuple(detail)
        widths = [width * multiplier for multiplier in multipliers]
        told = 4 * width
        self.told = TimeCondition(told, condition_dim)
        inputs = channels * patch**2
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        # Of each pixel by itself: in a convolution of 3×3 they would be a large part of a small network's work.
        self.fine = nn.Linear(inputs * 2 * len(self.detail), widths[0]) if self.detail else None
        self.down = nn.ModuleList(_blocks(blocks, wide, told) for wide in widths[:-1])
        self.halve = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths))
        self.before, self.after = (_blocks(blocks, widths[-1], told) for _ in range(2))
        self.attention = SelfAttention(widths[-1], heads=heads) if heads else nn.Identity()
        self.widen = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(_blocks(blocks, wide, told) for wide in widths[:-1])
        self.norm = ChannelNorm(widths[0])
        self.head = nn.Conv2d(widths[0], inputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, clock: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map images (n, channels, h, w), times (n,) and conditions (n, condition_dim) to (n, channels, h, w)."""
        height, width = x.shape[2:]
        padded = F.pad(x.float(), (0, -width % self.patch, 0, -height % self.patch), mode="replicate")
        squares = F.pixel_unshuffle(padded, self.patch)
        told = self.told(clock, condition)
        with torch.autocast(x.device.type, enabled=False):
            h = self.stem(squares)
        if torch.is_autocast_enabled(x.device.type):
            h = h.to(torch.get_autocast_dtype(x.device.type))
        if self.fine is not None:
            h = h + self.fine(waves(squares.permute(0, 2, 3, 1), self.detail)).permute(0, 3, 1, 2)
        h = F.silu(self.norm(self.body(h, told)))
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = F.pixel_shuffle(self.head(h.float()), self.patch)
        return out[:, :, :height, :width]

    def body(self, h: Tensor, told: Tensor) -> Tensor:
        """Map features (n, width, h, w) to the same shape, down all levels and up again."""
        kept = []
        for blocks, halve in zip(self.down, self.halve, strict=True):
            h = through(blocks, h, told)
            kept.append(h)
            h = halve(h)
        h = through(self.after, self.attention(through(self.before, h, told)), told)
        for blocks, widen, skip in zip(reversed(self.up), reversed(self.widen), reversed(kept), strict=True):
            h = F.interpolate(widen(h), size=skip.shape[2:], mode="nearest") + skip
            h = through(blocks, h, told)
        return h


def _blocks(n: int, channels: int, told: int) -> nn.ModuleList:
    return nn.ModuleList(Block(channels, told=told) for _ in range(n))


def through(blocks: nn.Module, h: Tensor, told: Tensor) -> Tensor:
    """Return the features after all blocks of a list."""
    for block in blocks.children():
        h = block(h, told)
    return h

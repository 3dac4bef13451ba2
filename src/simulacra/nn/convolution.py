"""Convolutional encoder and decoder for images of any size."""

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity (He et al. 2016, arXiv:1603.05027), without normalisation.

    Example:
        >>> import torch
        >>> ResidualBlock(8)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        return x + self.second(F.silu(self.first(F.silu(x))))  # type: ignore[no-any-return]


def pyramid(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Return the sizes that `levels` halvings pass through, rounding up, largest first.

    Example:
        >>> pyramid(28, 28, 2)
        [(28, 28), (14, 14), (7, 7)]
    """
    sizes = [(height, width)]
    for _ in range(levels):
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))  # type: ignore[arg-type]
    return sizes


class Encoder(nn.Module):
    """Image to vector: one strided convolution and one residual block a level, then a linear layer.

    Example:
        >>> import torch
        >>> Encoder((1, 28, 28), width=8, levels=2, out_features=5)(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 5])
    """

    def __init__(self, shape: tuple[int, int, int], *, width: int, levels: int, out_features: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        layers: list[nn.Module] = []
        for level in range(levels):
            wider = width * 2**level
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), ResidualBlock(wider)]
            channels = wider
        self.layers = nn.Sequential(*layers, nn.SiLU())
        last_height, last_breadth = pyramid(height, breadth, levels)[-1]
        self.head = nn.Linear(channels * last_height * last_breadth, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, out_features)."""
        return self.head(self.layers(x).flatten(1))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Vector to image: the encoder's levels backwards, each enlarged by nearest neighbours before its convolution.

    Example:
        >>> import torch
        >>> Decoder((2, 28, 28), width=8, levels=2, in_features=5)(torch.zeros(3, 5)).shape
        torch.Size([3, 2, 28, 28])
    """

    def __init__(self, shape: tuple[int, int, int], *, width: int, levels: int, in_features: int) -> None:
        super().__init__()
        out_channels, height, breadth = shape
        self.sizes = pyramid(height, breadth, levels)[::-1]
        channels = width * 2 ** (levels - 1)
        self.first = (channels, *self.sizes[0])
        self.stem = nn.Linear(in_features, channels * self.sizes[0][0] * self.sizes[0][1])
        blocks: list[nn.Module] = []
        for level in reversed(range(levels)):
            narrower = width * 2 ** max(0, level - 1)
            blocks.append(
                nn.Sequential(ResidualBlock(channels), nn.SiLU(), nn.Conv2d(channels, narrower, 3, padding=1))
            )
            channels = narrower
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map (n, in_features) to (n, channels, h, w)."""
        x = self.stem(z).unflatten(1, self.first)
        for block, size in zip(self.blocks, self.sizes[1:], strict=True):
            x = F.interpolate(block(x), size=size, mode="nearest")
        return self.head(F.silu(x))  # type: ignore[no-any-return]

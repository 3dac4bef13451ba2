"""Self-attention between the pixels of a small image: Vaswani et al. (2017), arXiv:1706.03762."""

import math

from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel (Ba et al. 2016, arXiv:1607.06450).

    In channels_last memory a pixel's channels lie side by side, so that this needs no rearrangement, forward or
    backward; group normalisation does, and its backward in bf16 loses what the convolutions gain.

    Example:
        >>> import torch
        >>> ChannelNorm(4)(torch.randn(2, 4, 3, 3)).mean(1).abs().max() < 1e-5
        tensor(True)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Every pixel looks at every other, beside the identity, with which it starts.

    Written as plain products and a softmax: for the few pixels that it is meant for, the fused kernel's backward in
    bf16 on a CPU takes several times as long.

    Args:
        channels: of the image; a multiple of `heads`.
        heads: numbers of looks.

    Example:
        >>> import torch
        >>> SelfAttention(8, heads=2)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        n, channels, height, width = x.shape
        tokens = self.norm(x.permute(0, 2, 3, 1)).reshape(n, height * width, channels)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        looks = F.softmax(q @ k.transpose(2, 3) / math.sqrt(channels // self.heads), dim=-1)
        seen = (looks.to(v.dtype) @ v).transpose(1, 2).reshape(n, height, width, channels)
        return x + self.out(seen).permute(0, 3, 1, 2)  # type: ignore[no-any-return]

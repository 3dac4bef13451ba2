"""EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946, in the variant that TensorFlow published for small devices)."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class Stage(NamedTuple):
    """One row of the paper's table 1: so many blocks, the first of which strides and changes the channels."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


STEM, HEAD, CLASSES = 32, 1280, 1000
STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
EPSILON = 1e-3
"""Of the batch normalisation, as in TensorFlow."""


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: where the padding is odd, one more row below and column to the right.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: rows and columns of the kernel.
        stride: of both axes.
        groups: as in `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c', ⌈h / stride⌉, ⌈w / stride⌉)."""
        top, bottom = self._padding(x.shape[2])
        left, right = self._padding(x.shape[3])
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def _padding(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018, arXiv:1801.04381): widen, convolve each channel, narrow.

    As the lite variant has it: without squeeze-and-excitation, and with ReLU6 in place of swish.

    Args:
        in_channels: channels of the input.
        stage: the stage that the block stands in.
        stride: of the middle convolution.
    """

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = in_channels * stage.expansion
        widen = _activated(SameConv(in_channels, wide, 1)) if stage.expansion > 1 else []
        depthwise = _activated(SameConv(wide, wide, stage.kernel, stride=stride, groups=wide))
        narrow = [SameConv(wide, stage.channels, 1), nn.BatchNorm2d(stage.channels, eps=EPSILON)]
        self.layers = nn.Sequential(*widen, *depthwise, *narrow)
        self.residual = stride == 1 and in_channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, stage.channels, ⌈h / stride⌉, ⌈w / stride⌉)."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The network, its 1,280 pooled features and its logits of ImageNet's thousand classes.

    Example:
        >>> import torch
        >>> network = EfficientNetLite0().eval()
        >>> features = network.features(torch.zeros(2, 3, 64, 64))
        >>> features.shape, network.logits(features).shape
        (torch.Size([2, 1280]), torch.Size([2, 1000]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_activated(SameConv(3, STEM, 3, stride=2)))
        self.blocks = nn.Sequential(*_blocks())
        self.head = nn.Sequential(*_activated(SameConv(STAGES[-1].channels, HEAD, 1)))
        self.classifier = nn.Linear(HEAD, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Map images (n, 3, h, w) in about [-1, 1] to pooled activations (n, 1280)."""
        activations: Tensor = self.head(self.blocks(self.stem(x)))
        return activations.mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Map features (n, 1280) to logits (n, 1000)."""
        return self.classifier(features)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, h, w) to logits (n, 1000)."""
        return self.logits(self.features(x))


def _blocks() -> Iterator[Block]:
    """Yield the sixteen blocks."""
    channels = STEM
    for stage in STAGES:
        for stride in chain([stage.stride], [1] * (stage.blocks - 1)):
            yield Block(channels, stage, stride)
            channels = stage.channels


def _activated(convolution: SameConv) -> list[nn.Module]:
    """Return a convolution with its normalisation and activation."""
    return [convolution, nn.BatchNorm2d(convolution.out_channels, eps=EPSILON), nn.ReLU6()]

"""Inception v3 (Szegedy et al. 2016, arXiv:1512.00567) as TensorFlow's graph of 2015-12-05 has it, which FID is of.

The blocks are torchvision's but for their pooling: that graph averages over what lies inside the image only, and the
last block takes the maximum in place of the mean (Heusel et al. 2017, arXiv:1706.08500; Parmar et al. 2022,
arXiv:2104.11222). Names of tensors are those of the weights that are passed around as `pt_inception-2015-12-05`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.inception import (
    BasicConv2d,
    Inception3,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

CLASSES = 1008
"""Of the graph: ImageNet's thousand, and eight that were never trained."""


def _mean(x: Tensor) -> Tensor:
    """Return means of 3×3 pixels, without those that lie outside the image."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    """Return maxima of 3×3 pixels."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


class BlockA(InceptionA):  # type: ignore[misc]  # torchvision has no types
    """The block of 35×35 pixels, with another mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c', h, w)."""
        wide = self.branch5x5_2(self.branch5x5_1(x))
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), wide, twice, self.branch_pool(_mean(x))], 1)


class BlockC(InceptionC):  # type: ignore[misc]
    """The block of 17×17 pixels, with another mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, 768, h, w)."""
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_mean(x))], 1)


class BlockE(InceptionE):  # type: ignore[misc]
    """The first block of 8×8 pixels, with another mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, 2048, h, w)."""
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        once = [self.branch3x3_2a(once), self.branch3x3_2b(once)]
        twice = [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([self.branch1x1(x), *once, *twice, self.branch_pool(self.pool(x))], 1)

    pool = staticmethod(_mean)


class LastBlock(BlockE):
    """The second block of 8×8 pixels, with a maximum where the paper has a mean."""

    pool = staticmethod(_maximum)


BLOCKS = (BasicConv2d, BlockA, InceptionB, BlockC, InceptionD, BlockE, InceptionAux)


class InceptionV3(Inception3):  # type: ignore[misc]
    """The network, its 2,048 pooled features, and its 1,008 logits without their bias, as the inception score takes.

    Example:
        >>> network = InceptionV3().eval()
        >>> features = network.features(torch.zeros(1, 3, 299, 299))
        >>> features.shape, network.logits(features).shape
        (torch.Size([1, 2048]), torch.Size([1, 1008]))
    """

    def __init__(self) -> None:
        super().__init__(CLASSES, aux_logits=False, inception_blocks=list(BLOCKS), init_weights=False)
        self.Mixed_7c = LastBlock(2048)

    def features(self, x: Tensor) -> Tensor:
        """Map images (n, 3, 299, 299) in [-1, 1] to pooled activations (n, 2048)."""
        for stage in self._stages():
            x = stage(x)
        return self.avgpool(x).flatten(1)  # type: ignore[no-any-return]

    def logits(self, features: Tensor) -> Tensor:
        """Map features (n, 2048) to logits (n, 1008)."""
        return F.linear(features, self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, 299, 299) to logits (n, 1008)."""
        return self.logits(self.features(x))

    def _stages(self) -> tuple[nn.Module, ...]:
        """Return all that lies before the pooling, in order."""
        stem = (self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3, self.maxpool1)
        wider = (self.Conv2d_3b_1x1, self.Conv2d_4a_3x3, self.maxpool2)
        at_35 = (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d)
        at_17 = (self.Mixed_6a, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e)
        at_8 = (self.Mixed_7a, self.Mixed_7b, self.Mixed_7c)
        return *stem, *wider, *at_35, *at_17, *at_8

"""Generators and discriminators for images of any size: dense, DCGAN and residual.

References:
    Radford et al. (2016), arXiv:1511.06434 (DCGAN); Miyato et al. (2018), arXiv:1802.05957 (spectral normalisation and
    the residual pair); Miyato & Koyama (2018), arXiv:1802.05637 (projection discriminator).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from simulacra.nn.batch_norm import BatchNorm
from simulacra.nn.convolution import pyramid

Shape = tuple[int, int, int]

LEAK = 0.2
"""Slope of a LeakyReLU below 0."""

CLASS_FEATURES = 32
"""Numbers that stand for a class beside a generator's noise."""

CLASS_SCALE = 0.05
"""Standard deviation of those numbers at first, where that of the noise is 1."""


class Generator(nn.Module):
    """Noise and class to image: the class is embedded and set beside the noise.

    Args:
        body: vectors (n, latent_dim, or latent_dim + CLASS_FEATURES with classes) to images in [-1, 1].
        n_classes: classes; 0 for none.

    Example:
        >>> body = MlpGenerator(16 + CLASS_FEATURES, (1, 8, 8))
        >>> Generator(body, n_classes=3)(torch.zeros(2, 16), torch.tensor([0, 2])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, body: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.body = body
        self.classes = nn.Embedding(n_classes, CLASS_FEATURES) if n_classes else None
        if self.classes is not None:
            # Classes that began as far apart as noise is wide would be all that the image is made of: one a class.
            self.classes.weight.data.mul_(CLASS_SCALE)

    def forward(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Map noise (n, latent_dim) and classes (n,) to images in [-1, 1], (n, channels, h, w)."""
        if self.classes is not None and y is not None:
            z = torch.cat([z, self.classes(y)], dim=1)
        return self.body(z).float()  # type: ignore[no-any-return]


class MlpGenerator(nn.Sequential):
    """Dense layers of 128, 256 and 512, batch normalisation from the second on.

    Args:
        in_features: length of the input vectors.
        shape: channels, height and width of the image.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise((in_features, 128, 256, 512))):
            layers += [nn.Linear(before, after), *([BatchNorm(after)] if number else []), nn.LeakyReLU(LEAK)]
        channels, height, width = shape
        super().__init__(*layers, nn.Linear(512, channels * height * width), nn.Tanh(), nn.Unflatten(1, shape))


class DcganGenerator(nn.Module):
    """A dense layer to the smallest image, then transposed 5×5 convolutions that double it with batch normalisation.

    Args:
        in_features: length of the input vectors.
        shape: channels, height and width of the image; any, since odd sides are met exactly.
        width: channels before the last convolution; doubles a level inwards.
        levels: doublings.

    Example:
        >>> DcganGenerator(16, (3, 28, 33), width=4, levels=2)(torch.zeros(2, 16)).shape
        torch.Size([2, 3, 28, 33])
    """

    def __init__(self, in_features: int, shape: Shape, *, width: int, levels: int) -> None:
        super().__init__()
        sizes = pyramid(shape[1], shape[2], levels)[::-1]
        channels = [width * 2**level for level in reversed(range(levels))]
        first = (channels[0], *sizes[0])
        self.stem = nn.Sequential(
            nn.Linear(in_features, first[0] * first[1] * first[2], bias=False), nn.Unflatten(1, first)
        )
        self.norms = nn.ModuleList(BatchNorm(n) for n in channels)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, bias=last)
            for before, after, last in zip(
                channels, [*channels[1:], shape[0]], [False] * (levels - 1) + [True], strict=True
            )
        )
        self.sizes = sizes[1:]
        self.apply(small)

    def forward(self, z: Tensor) -> Tensor:
        """Map vectors (n, in_features) to images in [-1, 1]."""
        x = self.stem(z)
        for norm, convolution, size in zip(self.norms, self.convolutions, self.sizes, strict=True):
            x = convolution(F.relu(norm(x)), output_size=list(size))
        return torch.tanh(x)


def small(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02²), as Radford et al. do (section 4): the first images are grey, not saturated."""
    if isinstance(module, nn.Linear | nn.ConvTranspose2d):
        nn.init.trunc_normal_(module.weight, std=0.02)


class UpBlock(nn.Module):
    """Two 3×3 convolutions, the first on the enlarged image, beside an enlarged 1×1 convolution.

    Args:
        before: channels of the input.
        after: channels of the output.
        size: height and width of the output.
    """

    def __init__(self, before: int, after: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList([BatchNorm(before), BatchNorm(after)])
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, after, *size)."""
        inner = self.first(self.enlarged(F.relu(self.norms[0](x))))
        # A 1×1 convolution before enlarging gives what one after it would, on fewer pixels.
        return self.enlarged(self.skip(x)) + self.second(F.relu(self.norms[1](inner)))  # type: ignore[no-any-return]

    def enlarged(self, x: Tensor) -> Tensor:
        """Return x at the block's size, by nearest neighbours."""
        return F.interpolate(x, size=self.size, mode="nearest")


class ResnetGenerator(nn.Sequential):
    """A dense layer to the smallest image, then one residual block a doubling.

    Args:
        in_features: length of the input vectors.
        shape: channels, height and width of the image.
        width: channels of the last block; doubles a level inwards.
        levels: doublings.

    Example:
        >>> ResnetGenerator(16, (3, 28, 33), width=4, levels=2)(torch.zeros(2, 16)).shape
        torch.Size([2, 3, 28, 33])
    """

    def __init__(self, in_features: int, shape: Shape, *, width: int, levels: int) -> None:
        sizes = pyramid(shape[1], shape[2], levels)[::-1]
        channels = [width * 2 ** max(0, level - 1) for level in reversed(range(levels + 1))]
        first = (channels[0], *sizes[0])
        super().__init__(
            nn.Linear(in_features, first[0] * first[1] * first[2]),
            nn.Unflatten(1, first),
            *(UpBlock(*between, size) for between, size in zip(pairwise(channels), sizes[1:], strict=True)),
            BatchNorm(channels[-1]),
            nn.ReLU(),
            nn.Conv2d(channels[-1], shape[0], 3, padding=1),
            nn.Tanh(),
        )


class Discriminator(nn.Module):
    """Image and class to a score: a linear head, and with classes the projection on the class's embedding.

    None of its layers normalises over the batch: a score depends on its own image only, as gradient penalties ask.

    Args:
        features: images to vectors (n, features.n_features).
        n_classes: classes; 0 for none.
        spectral: keep every layer's largest singular value at 1.

    Example:
        >>> net = Discriminator(MlpFeatures((1, 8, 8)), n_classes=3, spectral=True)
        >>> net(torch.zeros(2, 1, 8, 8), torch.tensor([0, 2])).shape
        torch.Size([2])
    """

    def __init__(self, features: "Features", n_classes: int, *, spectral: bool) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(features.n_features, 1)
        self.classes = nn.Embedding(n_classes, features.n_features) if n_classes else None
        self.apply(keep_variance)
        if spectral:
            for module in [*self.modules()]:
                if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
                    spectral_norm(module)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Map images (n, channels, h, w) and classes (n,) to scores (n,)."""
        features = self.features(x)
        score = self.head(features).squeeze(1).float()
        if self.classes is not None and y is not None:
            # f(x, y) = yᵀ V φ(x) + ψ(φ(x)): Miyato & Koyama (2018), section 3.
            score = score + (self.classes(y) * features).float().sum(dim=1)
        return score  # type: ignore[no-any-return]


class Features(nn.Sequential):
    """Layers from an image to a vector of known length."""

    def __init__(self, *layers: nn.Module, n_features: int) -> None:
        super().__init__(*layers)
        self.n_features = n_features


class MlpFeatures(Features):
    """Dense layers of 512 and 256."""

    def __init__(self, shape: Shape) -> None:
        channels, height, width = shape
        first = nn.Linear(channels * height * width, 512)
        super().__init__(
            nn.Flatten(), first, nn.LeakyReLU(LEAK), nn.Linear(512, 256), nn.LeakyReLU(LEAK), n_features=256
        )


class DcganFeatures(Features):
    """5×5 convolutions that halve the image and double the channels, `width` after the first."""

    def __init__(self, shape: Shape, *, width: int, levels: int) -> None:
        channels = [shape[0], *(width * 2**level for level in range(levels))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(LEAK)]
        height, breadth = pyramid(shape[1], shape[2], levels)[-1]
        super().__init__(*layers, nn.Flatten(), n_features=channels[-1] * height * breadth)


class DownBlock(nn.Module):
    """Two 3×3 convolutions beside a 1×1 convolution, both sides then averaged over 2×2 pixels.

    Args:
        before: channels of the input.
        after: channels of the output.
        first: whether the input is the image itself, which no ReLU should cut.
    """

    def __init__(self, before: int, after: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)]
        )
        self.skip = nn.Conv2d(before, after, 1)
        self.halve = nn.AvgPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, after, ⌈h/2⌉, ⌈w/2⌉)."""
        inner = self.convolutions[0](x if self.first else F.relu(x))
        inner = self.convolutions[1](F.relu(inner))
        return self.skip(self.halve(x)) + self.halve(inner)  # type: ignore[no-any-return]


class SumOverPixels(nn.Module):
    """Sum of the positive part over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, channels)."""
        return F.relu(x).sum(dim=(2, 3))


class ResnetFeatures(Features):
    """One residual block a halving, `width` channels after the first and twice as many a level, then summed."""

    def __init__(self, shape: Shape, *, width: int, levels: int) -> None:
        channels = [shape[0], *(width * 2**level for level in range(levels))]
        blocks = [DownBlock(*between, first=level == 0) for level, between in enumerate(pairwise(channels))]
        super().__init__(*blocks, SumOverPixels(), n_features=channels[-1])


def keep_variance(module: nn.Module) -> None:
    """Draw weights so that scores vary as images do (He et al. 2015, arXiv:1502.01852).

    Without batch normalisation torch's own are so small that a short training spends itself on making them larger.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=LEAK)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        module.weight.data.mul_(module.embedding_dim**-0.5)

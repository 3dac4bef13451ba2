"""A small convolutional classifier: feature extractor of the evaluator and subject of the augmentation trial."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvClassifier(nn.Module):
    """Three strided convolutions with batch normalisation, pooling, one hidden layer, one linear head.

    Args:
        in_channels: channels of the image.
        n_classes: number of logits.
        width: channels of the first convolution.
        n_features: size of the penultimate layer.

    Example:
        >>> ConvClassifier(1, 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, n_classes: int, *, width: int = 32, n_features: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for wider in (width, 2 * width, 2 * width):
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.SiLU()]
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * 4, n_features)
        # Features of mean 0 and variance 1 over the training images: distances between them have a natural scale.
        self.standardise = nn.BatchNorm1d(n_features, affine=False)
        self.head = nn.Linear(n_features, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Map images in [-1, 1], (n, channels, h, w), to standardised penultimate activations (n, n_features)."""
        # A 2×2 grid instead of one mean keeps where a stroke lies, and works at every image size.
        pooled = F.adaptive_avg_pool2d(self.layers(x), 2).flatten(1)
        return self.standardise(F.silu(self.hidden(pooled)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Map images in [-1, 1] to logits (n, n_classes)."""
        return self.head(self.features(x))  # type: ignore[no-any-return]


def shifted(x: Tensor, offsets: Tensor, *, pixels: int) -> Tensor:
    """Move each image by its rows and columns, filling with its border.

    Args:
        x: images (n, c, h, w).
        offsets: rows and columns to move by, whole numbers from 0 to 2 · pixels, `pixels` being none; (n, 2).
        pixels: the largest move.

    Returns:
        Images (n, c, h, w).
    """
    n, _, height, width = x.shape
    padded = F.pad(x, [pixels] * 4, mode="replicate")
    rows = offsets[:, :1] + torch.arange(height, device=x.device)
    columns = offsets[:, 1:] + torch.arange(width, device=x.device)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

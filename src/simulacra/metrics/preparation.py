"""What is done to images before a network sees them: size, scale and colour, as the network was trained.

References:
    Parmar, Zhang & Zhu (2022), arXiv:2104.11222, on how much of a Fréchet distance is the resizer's.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1], red, green, blue; what networks trained with PyTorch mostly expect."""


class Preparation(NamedTuple):
    """How pixels become a network's input; what the two texts say stands in every passport.

    Attributes:
        resizer: how images come to the network's size.
        scale: how pixels come to its range, and grey images to its channels.
        apply: maps pixels in [0, 255], (n, channels, height, width) float32, to the input.
    """

    resizer: str
    scale: str
    apply: "Callable[[Tensor], Tensor]"


def resize_like_tf1(x: "Tensor", size: int) -> "Tensor":
    """Return images (n, c, h, w) at size × size by the bilinear resizer of TensorFlow 1, which FID is defined with.

    Output pixel i lies at i · h / size of the input, corner on corner and not centre on centre, and is a mean of two by
    two pixels however much smaller the image becomes. Nothing is rounded to whole numbers.
    """
    top, bottom, down = _neighbours(x, x.shape[2], size)
    left, right, across = _neighbours(x, x.shape[3], size)
    x = x[..., left] + (x[..., right] - x[..., left]) * across
    upper, lower = x[:, :, top], x[:, :, bottom]
    return upper + (lower - upper) * down[:, None]


def _neighbours(x: "Tensor", n: int, size: int) -> "tuple[Tensor, Tensor, Tensor]":
    """Return, for each of `size` places on an axis of n pixels, the pixels on both sides and how far it is between."""
    import torch

    # In float32, as there: in float64 a place may fall on the other side of a pixel.
    places = torch.arange(size, dtype=torch.float32, device=x.device) * torch.tensor(n / size, dtype=torch.float32)
    before = places.long()
    return before, (before + 1).clamp(max=n - 1), places - before


def resize_square(x: "Tensor", size: int, mode: Literal["bilinear", "bicubic"]) -> "Tensor":
    """Return the largest centred square of images (n, c, h, w) at size × size, in [0, 255], not rounded.

    Pixels lie centre on centre, and an image that becomes smaller is smoothed first, as Pillow does.
    """
    from torch.nn import functional as F

    height, width = x.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = x[:, :, top : top + side, left : left + side]
    # Cubic interpolation swings beyond its pixels.
    return F.interpolate(square, (size, size), mode=mode, antialias=True, align_corners=False).clamp(0, 255)


def in_colour(x: "Tensor") -> "Tensor":
    """Return images (n, 3, h, w): those in grey, (n, 1, h, w), thrice."""
    return x.expand(-1, 3, -1, -1)


def _normalised(x: "Tensor") -> "Tensor":
    """Return pixels in [0, 255] with ImageNet's mean and deviation taken out."""
    mean, std = (x.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x / 255 - mean) / std


REPEATED = "grey repeated to three channels"

PLAIN = Preparation("none", "uint8 / 127.5 - 1", lambda x: x / 127.5 - 1)
INCEPTION = Preparation(
    "TensorFlow 1 bilinear to 299 × 299",
    f"(uint8 - 128) / 128, {REPEATED}",
    lambda x: (resize_like_tf1(in_colour(x), 299) - 128) / 128,
)
EFFICIENTNET = Preparation(
    "centred square, bilinear with antialiasing to 224 × 224",
    f"(uint8 - 127) / 128, {REPEATED}",
    lambda x: (resize_square(in_colour(x), 224, "bilinear") - 127) / 128,
)
DINOV2 = Preparation(
    "centred square, bicubic with antialiasing to 224 × 224",
    f"(uint8 / 255 - ImageNet's mean) / ImageNet's deviation, {REPEATED}",
    lambda x: _normalised(resize_square(in_colour(x), 224, "bicubic")),
)

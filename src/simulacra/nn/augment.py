"""Differentiable augmentation: Zhao et al. (2020), arXiv:2006.10738.

Real and generated images pass through it on their way to the discriminator, which then cannot learn small data by
heart; since a gradient flows through it to the generator, samples do not learn to look augmented.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DRAWS = 7
"""Uniform numbers that the augmentation of one image takes."""

MAX_SHIFT = 1 / 8
"""Largest translation, as a share of height and width."""

CUT = 1 / 2
"""Height and width of what is cut out, as a share of the image's."""


def brightness(x: Tensor, uniform: Tensor) -> Tensor:
    """Add one number from [−0.5, 0.5) to each image (n, channels, h, w), by numbers in [0, 1), (n,)."""
    return x + (uniform[:, None, None, None] - 0.5)


def saturation(x: Tensor, uniform: Tensor) -> Tensor:
    """Multiply each pixel's distance from its grey by a number from [0, 2); grey images stay as they are."""
    grey = x.mean(dim=1, keepdim=True)
    return grey + (x - grey) * (2 * uniform[:, None, None, None])


def contrast(x: Tensor, uniform: Tensor) -> Tensor:
    """Multiply each image's distance from its mean by a number from [0.5, 1.5)."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (uniform[:, None, None, None] + 0.5)


def colour(x: Tensor, uniform: Tensor) -> Tensor:
    """Change brightness, saturation and contrast, by numbers in [0, 1), (n, 3)."""
    return contrast(saturation(brightness(x, uniform[:, 0]), uniform[:, 1]), uniform[:, 2])


def translation(x: Tensor, uniform: Tensor) -> Tensor:
    """Move each image by up to an eighth of its sides, filling with zeros, by numbers in [0, 1), (n, 2)."""
    places, inside = [], []
    for axis, side in enumerate(x.shape[2:]):
        most = round(side * MAX_SHIFT)
        shift = (uniform[:, axis] * (2 * most + 1)).long() - most
        place = torch.arange(side, device=x.device) - shift[:, None]
        places.append(place.clamp(0, side - 1))
        inside.append((place >= 0) & (place < side))
    image = torch.arange(len(x), device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[image, places[0][:, :, None], places[1][:, None, :]].permute(0, 3, 1, 2)
    return moved * (inside[0][:, None, :, None] & inside[1][:, None, None, :])


def cutout(x: Tensor, uniform: Tensor) -> Tensor:
    """Set a rectangle of half of each image's sides to zero, around a place given by numbers in [0, 1), (n, 2)."""
    cut = []
    for axis, side in enumerate(x.shape[2:]):
        size = round(side * CUT)
        # Centres lie where at least one row and one column of the image is cut.
        first = (uniform[:, axis] * (side + 1 - size % 2)).long() - size // 2
        place = torch.arange(side, device=x.device) - first[:, None]
        cut.append((place >= 0) & (place < size))
    return x * ~(cut[0][:, None, :, None] & cut[1][:, None, None, :])


AUGMENTATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], slice]] = {
    "color": (colour, slice(0, 3)),
    "translation": (translation, slice(3, 5)),
    "cutout": (cutout, slice(5, 7)),
}
"""Each kind, and which of an image's numbers it takes: the same whatever other kinds are on."""


def augmented(x: Tensor, uniform: Tensor, kinds: Sequence[str]) -> Tensor:
    """Return images (n, channels, h, w) in [−1, 1] after the given kinds of augmentation, in their order.

    Args:
        x: the images.
        uniform: numbers in [0, 1), (n, DRAWS).
        kinds: keys of AUGMENTATIONS.

    Example:
        >>> augmented(torch.ones(2, 1, 8, 8), torch.rand(2, DRAWS), ["color", "cutout"]).shape
        torch.Size([2, 1, 8, 8])
    """
    for kind in kinds:
        augmentation, columns = AUGMENTATIONS[kind]
        x = augmentation(x, uniform[:, columns])
    return x

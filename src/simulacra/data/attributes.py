"""Attributes that can be measured from an image's pixels alone, whether it is real or decoded."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Measure = Callable[[NDArray[np.uint8]], Array]

NOISE_FLOOR = 0.1
"""Share of full brightness below which a pixel counts as background."""


class Attribute(NamedTuple):
    """One number an image: how it is measured from images (n, channels, height, width), its unit, what it means."""

    measure: Measure
    unit: str
    meaning: str


def slant(images: NDArray[np.uint8]) -> Array:
    """Return by how many degrees each shape leans to the right, (n,): the angle of the shear that would upright it.

    It is read off the second-order moments of the shape, as handwriting is deskewed: x moves by tan(slant) a unit of
    height. An image without a shape has slant 0.
    """
    ink = _ink(images)
    y, x = np.mgrid[: ink.shape[1], : ink.shape[2]].astype(np.float64)
    mass = np.maximum(ink.sum(axis=(1, 2), keepdims=True), 1e-12)
    from_middle = x - (ink * x).sum(axis=(1, 2), keepdims=True) / mass
    below_middle = y - (ink * y).sum(axis=(1, 2), keepdims=True) / mass
    together = (ink * from_middle * below_middle).sum(axis=(1, 2))
    return np.asarray(np.degrees(np.arctan2(-together, (ink * below_middle**2).sum(axis=(1, 2)))))


def thickness(images: NDArray[np.uint8]) -> Array:
    """Return the mean width of each image's strokes in pixels, (n,): twice their area over the length of their outline.

    The outline is the total variation of the brightness, so that soft edges need no threshold (coarea formula). An
    image without a shape has thickness 0.
    """
    ink = np.pad(_ink(images), ((0, 0), (1, 1), (1, 1)))
    across, down = np.diff(ink, axis=2)[:, :-1], np.diff(ink, axis=1)[:, :, :-1]
    outline = np.hypot(across, down).sum(axis=(1, 2))
    return np.asarray(2 * ink.sum(axis=(1, 2)) / np.maximum(outline, 1e-12))


def brightness(images: NDArray[np.uint8]) -> Array:
    """Return the mean of each image's pixels in percent of white, (n,)."""
    return np.asarray(images.mean(axis=(1, 2, 3), dtype=np.float64) * (100 / 255))


ATTRIBUTES: Mapping[str, Attribute] = {
    "slant": Attribute(slant, "°", "how far the shape leans to the right"),
    "thickness": Attribute(thickness, " px", "the mean width of the strokes"),
    "brightness": Attribute(brightness, " %", "the mean of all pixels, white being 100 %"),
}


def _ink(images: NDArray[np.uint8]) -> Array:
    """Return how far each pixel is from the background, grey, (n, height, width) in [0, 1].

    The background is the median of the image's border, so that dark shapes on white count as well.
    """
    grey = images.mean(axis=1, dtype=np.float64) / 255
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1)
    contrast = np.abs(grey - np.median(border, axis=1)[:, None, None])
    ink: Array = np.maximum(contrast - NOISE_FLOOR, 0)
    return ink

"""Images made of nothing: noisy shapes that a classifier can tell apart, drawn in one go by seed."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError

Array = NDArray[np.float32]

NOISE = 6.0  # standard deviation of the pixel noise, in grey levels: no two images come out identical


def _bar(along: Array, across: Array, radius: Array, width: Array) -> Array:
    """Return how far each point lies outside a bar; negative inside, as all shapes below."""
    return np.maximum(np.abs(along) - radius, np.abs(across) - width)


def _cross(x: Array, y: Array, radius: Array, width: Array) -> Array:
    return np.minimum(_bar(x, y, radius, width), _bar(y, x, radius, width))


def _disc(x: Array, y: Array, radius: Array, width: Array) -> Array:
    return np.hypot(x, y) - radius


def _ring(x: Array, y: Array, radius: Array, width: Array) -> Array:
    return np.abs(np.hypot(x, y) - radius) - width


def _saltire(x: Array, y: Array, radius: Array, width: Array) -> Array:
    return _cross((x + y) * np.float32(0.5**0.5), (x - y) * np.float32(0.5**0.5), radius, width)


# (x, y, radius, width) -> distance to the outline, in units of half an image.
SHAPES: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "bar": lambda x, y, radius, width: _bar(y, x, radius, width),
    "disc": _disc,
    "cross": _cross,
    "ring": _ring,
    "dash": _bar,
    "saltire": _saltire,
}


def fabricate_images(
    n: int, size: int = 16, channels: int = 1, n_classes: int = 3, seed: int = 0, *, labelled: bool = True
) -> ImageSet:
    """Draw n bright shapes on black, one shape a class, in shuffled and balanced classes.

    Position, radius, thickness, brightness (and tint, in colour) vary from image to image; pixel noise comes on top.

    Args:
        n: number of images; class counts differ by one at most.
        size: height and width in pixels.
        channels: 1 for grey, 3 for tinted shapes.
        n_classes: how many of `SHAPES` to draw, in their order.
        seed: same seed, same bytes.
        labelled: False leaves the classes out of the result; the pixels stay the same.

    Returns:
        Images (n, channels, size, size) uint8, with labels unless told otherwise.

    Raises:
        SimulacraError: where `n_classes` exceeds the shapes there are.
    """
    if not 1 <= n_classes <= len(SHAPES):
        raise SimulacraError(f"n_classes = {n_classes}: fabricated images have 1 to {len(SHAPES)} classes")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    names = tuple(SHAPES)[:n_classes]
    ink = np.empty((n, 1, size, size), np.float32)
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        ink[rows, 0] = _draw(SHAPES[name], len(rows), size, rng)
    tint = rng.uniform(150, 255, (n, channels, 1, 1)).astype(np.float32)
    noise = rng.standard_normal((n, channels, size, size), np.float32) * np.float32(NOISE)
    images = np.clip(np.rint(ink * tint + noise), 0, 255).astype(np.uint8)
    return ImageSet(images, labels, names) if labelled else ImageSet(images)


def _draw(shape: Callable[[Array, Array, Array, Array], Array], n: int, size: int, rng: np.random.Generator) -> Array:
    """Return n jittered drawings of one shape, (n, size, size) in [0, 1], with outlines one pixel soft."""

    def jitter(low: float, high: float) -> Array:
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    axis = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = axis[None, None, :] - jitter(-0.2, 0.2), axis[None, :, None] - jitter(-0.2, 0.2)
    distance = shape(x, y, jitter(0.5, 0.7), jitter(0.12, 0.2))
    ink: Array = np.clip(0.5 - distance * (size / 2), 0, 1)
    return ink

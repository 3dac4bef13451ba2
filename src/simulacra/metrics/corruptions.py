"""Images made worse by degrees, to see whether a metric notices (Heusel et al. 2017, arXiv:1706.08500, section 4)."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet

Images = NDArray[np.uint8]
Generator = np.random.Generator


class Corruption(NamedTuple):
    """A way of making a set of images worse.

    Args:
        title: a few words.
        unit: what a level counts.
        levels: from little to much; 0 would be the images as they are.
        apply: given images, a level and a source of chance, as many images that are worse.
        labelled: whether it needs to know the classes.
    """

    title: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[ImageSet, float, Generator], Images]
    labelled: bool = False


def with_noise(images: ImageSet, deviation: float, generator: Generator) -> Images:
    """Add normal noise of a standard deviation in grey levels to every pixel, and clip."""
    noise = generator.normal(0, deviation, images.images.shape)
    worse: Images = np.rint(images.images + noise).clip(0, 255).astype(np.uint8)
    return worse


def blurred(images: ImageSet, radius: float, generator: Generator) -> Images:
    """Blur along both axes by a Gaussian whose standard deviation is `radius` pixels."""
    from scipy.ndimage import gaussian_filter1d

    worse = images.images.astype(np.float32)
    for axis in (2, 3):
        worse = gaussian_filter1d(worse, radius, axis=axis, mode="nearest")
    rounded: Images = np.rint(worse).astype(np.uint8)
    return rounded


def without_classes(images: ImageSet, share: float, generator: Generator) -> Images:
    """Replace the images of a share of the classes, the last ones, by images of the others."""
    assert images.labels is not None  # noqa: S101
    kept = images.n_classes - round(share * images.n_classes)
    return _replaced(images, images.labels >= kept, np.flatnonzero(images.labels < kept), generator)


def repeated(images: ImageSet, share: float, generator: Generator) -> Images:
    """Replace a share of the images by copies of the others."""
    order = generator.permutation(len(images))
    cut = min(round(share * len(images)), len(images) - 1)
    lost = np.zeros(len(images), np.bool_)
    lost[order[:cut]] = True
    return _replaced(images, lost, order[cut:], generator)


def collapsed(images: ImageSet, share: float, generator: Generator) -> Images:
    """Replace a share of the images by copies of a single one."""
    order = generator.permutation(len(images))
    lost = np.zeros(len(images), np.bool_)
    lost[order[: round(share * len(images))]] = True
    return _replaced(images, lost, order[-1:], generator)


def _replaced(images: ImageSet, lost: NDArray[np.bool_], by: NDArray[np.int64], generator: Generator) -> Images:
    """Return the images, those lost replaced by others of the rows named, each drawn by chance."""
    rows = np.arange(len(images))
    rows[lost] = generator.choice(by, int(lost.sum()))
    worse: Images = images.images[rows]
    return worse


CORRUPTIONS: dict[str, Corruption] = {
    "noise": Corruption("Noise", "standard deviation, grey levels", (8, 16, 32, 64, 128), with_noise),
    "blur": Corruption("Blur", "standard deviation, pixels", (0.5, 1, 1.5, 2, 3), blurred),
    "missing_classes": Corruption(
        "Classes missing", "share of classes", (0.1, 0.3, 0.5, 0.7, 0.9), without_classes, labelled=True
    ),
    "repeats": Corruption("Repeats", "share of images", (0.5, 0.75, 0.9, 0.95, 0.98), repeated),
    "collapse": Corruption("Mode collapse", "share of images", (0.1, 0.25, 0.5, 0.75, 0.95), collapsed),
}


def responses(
    measure: Callable[[Images], float], images: ImageSet, *, seed: int
) -> dict[str, list[tuple[float, float]]]:
    """Return what a metric says at each level of each corruption that the images allow, level 0 first.

    Args:
        measure: the metric of a set of images against a reference that holds none of them.
        images: real ones.
        seed: for what is drawn by chance.
    """
    unharmed = measure(images.images)
    found = {}
    for name, corruption in CORRUPTIONS.items():
        if levels := _levels(corruption, images):
            worse = (corruption.apply(images, level, np.random.default_rng(seed)) for level in levels)
            values = [unharmed, *map(measure, worse)]
            found[name] = list(zip([0.0, *levels], values, strict=True))
    return found


def _levels(corruption: Corruption, images: ImageSet) -> list[float]:
    """Return the levels that the images allow: of classes whole numbers, and one is left."""
    if not corruption.labelled:
        return list(corruption.levels)
    k = images.n_classes if images.labels is not None else 0
    return [n / k for n in sorted({min(k - 1, max(1, round(share * k))) for share in corruption.levels}) if n > 0]


def rises(curve: list[tuple[float, float]]) -> bool:
    """Tell whether the metric says more at every level than at the one before.

    Example:
        >>> rises([(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]), rises([(0.0, 1.0), (0.5, 1.0)])
        (True, False)
    """
    return all(first < second for (_, first), (_, second) in pairwise(curve))

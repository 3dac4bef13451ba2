"""Shares with their intervals, and distances between images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
CONFIDENCE = 0.95
BEST = 100.0
"""Decibels that stand for no difference at all, which would be infinitely many."""


class Share(NamedTuple):
    """A share of trials, and its Wilson interval."""

    value: float
    low: float
    high: float


def share(hits: NDArray[np.bool_]) -> Share:
    """Return the share of hits with its 95 % interval.

    References:
        Wilson (1927), Journal of the American Statistical Association 22.

    Example:
        >>> [round(part, 3) for part in share(np.array([True] * 9 + [False]))]
        [0.9, 0.596, 0.982]
    """
    from scipy.stats import binomtest

    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, method="wilson")
    return Share(float(hits.mean()), float(found.low), float(found.high))


def root_mean_square(images: Pixels, others: Pixels) -> float:
    """Return the root mean squared difference of pixels that count from 0 to 1."""
    return float(np.sqrt(((images.astype(np.float64) - others) ** 2).mean())) / 255


def decibels(images: Pixels, others: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB, 100 at most.

    Example:
        >>> decibels(np.full((2, 2), 255, np.uint8), np.full((2, 2), 0, np.uint8))
        0.0
    """
    distance = root_mean_square(images, others)
    return min(BEST, -20 * float(np.log10(distance))) + 0.0 if distance else BEST

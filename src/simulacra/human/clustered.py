"""Shares of answers that are not independent: those of one person, and those to one image, are alike."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


def clustered_share(hits: NDArray[np.bool_], clusters: Sequence[NDArray[np.int64]]) -> dict[str, Any]:
    """Return the share of hits, its interval at 95 % confidence, and of how many it is; fit for JSON.

    The interval is Wilson's (1927) of as many independent answers as would leave the share as uncertain as these do.
    That uncertainty comes from sums of residuals within clusters of each kind (Cameron, Gelbach & Miller 2011,
    DOI 10.1198/jbes.2010.07136, equation 2.9), and the quantile is Student's for the number of clusters. Where answers
    are no more alike than by chance it is Wilson's interval of all of them. Without any answer, `value` and `interval`
    are None.

    Args:
        hits: (n,).
        clusters: of each kind, such as raters and images, which cluster each answer belongs to, (n,).

    Example:
        >>> alike = np.repeat([True, False, True, False], 10)
        >>> [round(bound, 2) for bound in clustered_share(alike, [np.repeat(np.arange(4), 10)])["interval"]]
        [0.06, 0.94]
        >>> [round(bound, 2) for bound in clustered_share(alike, [np.arange(40)])["interval"]]
        [0.35, 0.65]
    """
    n = len(hits)
    if not n:
        return {"value": None, "interval": None, "n": 0}
    rate = float(np.mean(hits))
    factor, degrees = _inflation(np.asarray(hits, np.float64) - rate, clusters)
    return {"value": rate, "interval": _wilson(rate, n / factor, degrees), "n": n}


def _inflation(residuals: NDArray[np.float64], clusters: Sequence[NDArray[np.int64]]) -> tuple[float, float]:
    """Return by how much the variance is that of independent answers, at least 1, and its degrees of freedom."""
    independent = float(residuals @ residuals)
    # One cluster says nothing of others, and clusters of one answer each nothing of what is alike within them.
    kinds = [each for each in clusters if 1 < len(np.unique(each)) < len(residuals)]
    if not independent or not kinds:
        return 1.0, math.inf
    sums = [_between(residuals, each) for each in kinds]
    both = np.unique(np.stack(kinds), axis=1, return_inverse=True)[1]
    shared = (len(kinds) - 1) * float((np.bincount(both, residuals) ** 2).sum())
    largest, count = max(sums)
    factor = max(sum(value for value, _ in sums) - shared, largest) / independent
    return (factor, count - 1) if factor > 1 else (1.0, math.inf)


def _between(residuals: NDArray[np.float64], clusters: NDArray[np.int64]) -> tuple[float, int]:
    """Return the sum of squared sums within clusters, corrected for their number, and that number."""
    _, which = np.unique(clusters, return_inverse=True)
    count = int(which.max()) + 1
    return count / (count - 1) * float((np.bincount(which, residuals) ** 2).sum()), count


def _wilson(rate: float, n: float, degrees: float) -> list[float]:
    from scipy.stats import norm, t

    level = (1 + CONFIDENCE) / 2
    z = float(norm.ppf(level) if math.isinf(degrees) else t.ppf(level, degrees))
    middle, reach = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + (z / (2 * n)) ** 2)
    low, high = ((middle + side * reach) / (1 + z * z / n) for side in (-1, 1))
    return [max(0.0, low), min(1.0, high)]

"""Sliced Wasserstein distance: what lies between two sets, seen along random lines (Bonneel et al. 2015)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import Array, blocks, check_feature_pair

FloatArray = NDArray[np.float64]


def sliced_wasserstein_distance(
    real: ArrayLike, generated: ArrayLike, *, order: int = 2, n_projections: int = 256, seed: int = 0
) -> float:
    """Return the sliced Wasserstein distance of features (n_real, d) and (n_generated, d), in units of the features.

    Rows are projected on `n_projections` directions drawn evenly from the sphere; there the distance of the given order
    is that of sorted numbers, and the mean of its powers over all directions, to the power 1 / order, is returned (J.
    Math. Imaging Vis. 51:22, equation 10). Unlike the Fréchet distance it sees more than two moments. It errs upwards
    by what n allows: compare at the same n.

    Raises:
        SimulacraError: where there is no direction, the order is below 1, either array has fewer than two rows, is not
            finite, or their dimensions differ.

    Example:
        >>> sliced_wasserstein_distance([[0.0], [1.0]], [[3.0], [4.0]])
        3.0
    """
    if order < 1 or n_projections < 1:
        raise SimulacraError(f"order is {order} and n_projections {n_projections}; both must be 1 at least")
    real, generated = check_feature_pair(real, generated)
    directions = np.random.default_rng(seed).normal(size=(real.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    powers = transport_powers(_projected(real, directions), _projected(generated, directions), order)
    return float(powers.mean() ** (1 / order))


def transport_powers(first: FloatArray, second: FloatArray, order: int) -> FloatArray:
    """Return, for every column of (n, m) and (k, m), the Wasserstein distance of both to the power of its order.

    In one dimension the best transport keeps the order of points, so that it joins the quantiles of both: between two
    neighbouring multiples of 1/n and 1/k a single pair of points is joined.

    Example:
        >>> transport_powers(np.array([[0.0], [2.0]]), np.array([[1.0]]), 2)
        array([1.])
    """
    first, second = np.sort(first, axis=0), np.sort(second, axis=0)
    n, k = len(first), len(second)
    # Whole numbers, in units of 1 / (n k): rounding may not make two borders of one.
    borders = np.unique(np.concatenate([np.arange(n + 1) * k, np.arange(k + 1) * n]))
    starts, weights = borders[:-1], np.diff(borders) / (n * k)
    moved = np.abs(first[starts // k] - second[starts // n])
    powers: FloatArray = weights @ moved**order
    return powers


def _projected(features: Array, directions: FloatArray) -> FloatArray:
    return np.concatenate([block @ directions for _, block in blocks(features)])

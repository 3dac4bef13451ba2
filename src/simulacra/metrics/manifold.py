"""Precision and recall (Kynkäänniemi 2019, arXiv:1904.06991), density and coverage (Naeem 2020, arXiv:2002.09797)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import check_feature_pair

FloatArray = NDArray[np.float64]

ROUNDING = 1e-13
"""Relative error granted to squared distances: one that equals a radius up to this counts as equal."""


def precision_recall_density_coverage(
    real: ArrayLike, generated: ArrayLike, *, k: int = 5, block_size: int = 1024
) -> dict[str, float]:
    """Return precision, recall, density and coverage of features (n_real, d) and (n_generated, d).

    Each row has a ball that reaches to its k-th nearest neighbour in its own set, itself excluded; a point on the
    boundary is outside. Precision is the share of generated rows inside some real ball, recall the share of real rows
    inside some generated ball, density the mean number of real balls around a generated row divided by k (1 when the
    distributions agree, not bounded by 1), and coverage the share of real balls that hold a generated row. Memory is
    that of a few tiles of `block_size` squared.

    Raises:
        SimulacraError: where `k` is below 1, either array has fewer than k + 1 rows, is not finite, or their dimensions
            differ.
    """
    if k < 1:
        raise SimulacraError(f"k is {k}; the radius needs at least the first neighbour")
    x, y = check_feature_pair(real, generated, minimum=k + 1)
    # Distances do not change, and rounding errors shrink, when a common offset is taken away.
    x, y = x - x.mean(axis=0), y - x.mean(axis=0)
    radii_real, radii_generated = _radii(x, k), _radii(y, k)
    balls_around = np.zeros(len(y))
    recalled, covered = np.zeros(len(x), np.bool_), np.zeros(len(x), np.bool_)
    for rows, columns in _tiles(len(x), len(y), block_size):
        distances = _squared_distances(x[rows], y[columns], rounding=ROUNDING)
        in_real_ball = distances < radii_real[rows, np.newaxis]
        balls_around[columns] += in_real_ball.sum(axis=0)
        covered[rows] |= in_real_ball.any(axis=1)
        recalled[rows] |= (distances < radii_generated[columns]).any(axis=1)
    return {
        "precision": float((balls_around > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(balls_around.mean() / k),
        "coverage": float(covered.mean()),
    }


def _radii(features: FloatArray, k: int) -> FloatArray:
    """Return the squared distance (n,) of each row to its k-th nearest neighbour, itself excluded."""
    from sklearn.neighbors import NearestNeighbors

    # The row itself is among the k + 1, at distance zero.
    distances, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(features).kneighbors(features)
    radii: FloatArray = np.square(distances[:, k])
    return radii


def _tiles(n_rows: int, n_columns: int, block_size: int) -> Iterator[tuple[slice, slice]]:
    """Yield the slices of rows and columns that cut a matrix into tiles."""
    for i in range(0, n_rows, block_size):
        for j in range(0, n_columns, block_size):
            yield slice(i, i + block_size), slice(j, j + block_size)


def _squared_distances(first: FloatArray, second: FloatArray, *, rounding: float = 0.0) -> FloatArray:
    """Return squared distances of all pairs of rows, increased by the rounding error that their norms allow."""
    norms_first, norms_second = np.square(first).sum(axis=1), np.square(second).sum(axis=1)
    distances = first @ second.T
    distances *= -2
    distances += (1 + rounding) * norms_first[:, np.newaxis]
    distances += (1 + rounding) * norms_second
    return distances

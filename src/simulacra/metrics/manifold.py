"""Precision and recall (Kynkäänniemi 2019, arXiv:1904.06991), density and coverage (Naeem 2020, arXiv:2002.09797)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import Array, blocks, check_feature_pair, tiles

FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]
Rows = NDArray[np.int64]

AT_ONCE = 2**21
"""Numbers in memory while distances are computed pair by pair."""


def precision_recall_density_coverage(
    real: ArrayLike, generated: ArrayLike, *, k: int = 5, block_size: int = 1024
) -> dict[str, float]:
    """Return precision, recall, density and coverage of features (n_real, d) and (n_generated, d).

    Each row has a ball that reaches to its k-th nearest neighbour in its own set, itself excluded; a point on the
    boundary is outside. Precision is the share of generated rows inside some real ball, recall the share of real rows
    inside some generated ball, density the mean number of real balls around a generated row divided by k (1 when the
    distributions agree, not bounded by 1), and coverage the share of real balls that hold a generated row.

    Distances are first computed in single precision, from products, with a bound on their error; where the bound leaves
    open whether a point is inside, that pair's is computed in double precision, from differences. So the result is that
    of double precision. Memory is that of a copy in single precision and a few tiles of `block_size` squared.

    Raises:
        SimulacraError: where `k` is below 1, either array has fewer than k + 1 rows, is not finite, or their dimensions
            differ.
    """
    if k < 1:
        raise SimulacraError(f"k is {k}; the radius needs at least the first neighbour")
    x, y = _clouds(*check_feature_pair(real, generated, minimum=k + 1))
    radii_real, radii_generated = _radii(x, k, block_size), _radii(y, k, block_size)
    balls_around = np.zeros(len(y.norms))
    recalled, covered = np.zeros(len(x.norms), np.bool_), np.zeros(len(x.norms), np.bool_)
    for rows, columns in tiles(len(x.norms), len(y.norms), block_size):
        distances, errors = _squared_distances(x, rows, y, columns)
        in_real_ball = _below(radii_real[rows, np.newaxis], distances, errors, x, rows, y, columns)
        balls_around[columns] += in_real_ball.sum(axis=0)
        covered[rows] |= in_real_ball.any(axis=1)
        in_generated_ball = _below(radii_generated[columns], distances, errors, x, rows, y, columns)
        recalled[rows] |= in_generated_ball.any(axis=1)
    return {
        "precision": float((balls_around > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(balls_around.mean() / k),
        "coverage": float(covered.mean()),
    }


class _Cloud(NamedTuple):
    """Rows of features in two precisions.

    Args:
        features: as they were given, (n, d).
        unit: length that distances are told in.
        single: the same about the clouds' common centre, in that unit, (n, d); none is longer than 1.
        norms: squared lengths of those, (n,).
    """

    features: Array
    unit: float
    single: SingleArray
    norms: SingleArray


def _clouds(real: Array, generated: Array) -> tuple[_Cloud, _Cloud]:
    """Return both sets about the real rows' mean: rounding errors grow with the distance from the origin."""
    centre = real.mean(axis=0, dtype=np.float64)
    longest = max(_longest(real, centre), _longest(generated, centre))
    unit = longest or 1.0
    singles = [_centred(each, centre, unit) for each in (real, generated)]
    norms = [np.einsum("ij,ij->i", each, each) for each in singles]
    return _Cloud(real, unit, singles[0], norms[0]), _Cloud(generated, unit, singles[1], norms[1])


def _longest(features: Array, centre: FloatArray) -> float:
    return max(float(np.linalg.norm(block - centre, axis=1).max()) for _, block in blocks(features))


def _centred(features: Array, centre: FloatArray, unit: float) -> SingleArray:
    single = np.empty(features.shape, np.float32)
    for rows, block in blocks(features):
        single[rows] = (block - centre) / unit
    return single


def _squared_distances(x: _Cloud, rows: slice, y: _Cloud, columns: slice) -> tuple[SingleArray, SingleArray]:
    """Return squared distances of all pairs of rows, and by how much each may be wrong at most.

    With unit roundoff u a product of d terms is wrong by d u |x| |y| at most, whatever the order of its sum (Higham
    2002, equation 3.5); what else is rounded takes less than 16 u (|x|² + |y|²), and underflow less than 1e-30.
    """
    distances = x.single[rows] @ y.single[columns].T
    errors = x.norms[rows, np.newaxis] + y.norms[columns]
    distances *= -2
    distances += errors
    errors *= (x.single.shape[1] + 16) * 2.0**-24
    errors += 1e-30
    return distances, errors


def _below(
    limits: FloatArray,
    distances: SingleArray,
    errors: SingleArray,
    x: _Cloud,
    rows: slice,
    y: _Cloud,
    columns: slice,
) -> NDArray[np.bool_]:
    """Tell of each pair whether its squared distance is below the limit, which is exact; so is the answer."""
    margins = distances - limits.astype(np.float32)
    below: NDArray[np.bool_] = margins < 0
    # A limit is at most 4, the square of the largest distance, and rounding it takes less than the errors allow.
    i, j = np.nonzero(np.abs(margins, out=margins) <= errors + 2.0**-23 * limits)
    below[i, j] = _exact(x, i + rows.start, y, j + columns.start) < np.broadcast_to(limits, below.shape)[i, j]
    return below


def _exact(x: _Cloud, rows: Rows, y: _Cloud, columns: Rows) -> FloatArray:
    """Return squared distances of pairs of rows, in double precision; equal differences give equal numbers."""
    found = np.empty(len(rows))
    step = max(1, AT_ONCE // x.features.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        differences = x.features[rows[part]].astype(np.float64) - y.features[columns[part]]
        differences /= x.unit
        found[part] = np.square(differences, out=differences).sum(axis=1)
    return found


def _radii(cloud: _Cloud, k: int, block_size: int) -> FloatArray:
    """Return the squared distance (n,) of each row to its k-th nearest neighbour, itself excluded, exactly."""
    n = len(cloud.norms)
    near, errors = _Nearest(n, min(2 * k + 6, n - 1)), np.zeros(n, np.float32)
    for rows, columns in tiles(n, n, block_size):
        # The matrix is symmetric: what lies above the diagonal is not computed.
        if columns.start > rows.start:
            continue
        distances, wrong = _squared_distances(cloud, rows, cloud, columns)
        errors[rows] = np.maximum(errors[rows], wrong.max(axis=1))
        if columns == rows:
            np.fill_diagonal(distances, np.inf)
        else:
            errors[columns] = np.maximum(errors[columns], wrong.max(axis=0))
            near.add(columns, rows, distances.T)
        near.add(rows, columns, distances)
    return _exact_radii(cloud, near, errors, k)


def _exact_radii(cloud: _Cloud, near: "_Nearest", errors: SingleArray, k: int) -> FloatArray:
    """Return the exact k-th smallest squared distance of each row, of those nearest in single precision.

    The k-th smallest of numbers that are wrong by e at most is wrong by e at most. So what is 2 e below it is surely
    among the k nearest, what is 2 e above it is not, and only what lies between is computed exactly.
    """
    n, kept = near.distances.shape
    limits = np.partition(near.distances, k - 1, axis=1)[:, k - 1]
    offsets = near.distances - limits[:, np.newaxis]
    sure = offsets < -2 * errors[:, np.newaxis]
    i, j = np.nonzero(np.abs(offsets) <= 2 * errors[:, np.newaxis])
    open_ones = np.full((n, kept), np.inf)
    open_ones[i, j] = _exact(cloud, i, cloud, near.rows[i, j])
    open_ones.sort(axis=1)
    radii: FloatArray = open_ones[np.arange(n), k - 1 - sure.sum(axis=1)]
    # Where even the farthest that was kept may be the k-th, one that was not kept may be; none is nearer than 0.
    crowded = (kept < n - 1) & (offsets.max(axis=1) <= 2 * errors) & (radii > 0)
    for row in np.flatnonzero(crowded):
        others = np.delete(np.arange(n), row)
        radii[row] = np.partition(_exact(cloud, np.full(n - 1, row), cloud, others), k - 1)[k - 1]
    return radii


class _Nearest:
    """For each of n rows the nearest others that were met so far, in no order.

    Args:
        n: rows.
        kept: how many of the nearest.
    """

    def __init__(self, n: int, kept: int) -> None:
        self.kept = kept
        self.distances = np.full((n, kept), np.inf, np.float32)
        self.rows = np.zeros((n, kept), np.int64)

    def add(self, rows: slice, columns: slice, tile: SingleArray) -> None:
        """Take note of the squared distances of some rows to others."""
        known = self.distances[rows]
        i, j = np.nonzero(tile < known.max(axis=1)[:, np.newaxis])
        if len(i) > 4 * known.size:
            # Most are nearer than what is known, as in the beginning: their nearest are found all at once.
            j = np.argpartition(tile, min(self.kept, tile.shape[1]) - 1, axis=1)[:, : self.kept].ravel()
            i = np.repeat(np.arange(len(tile)), len(j) // len(tile))
        values = tile[i, j]
        order = np.lexsort((values, i))
        i, j, values = i[order], j[order], values[order]
        place = np.arange(len(i)) - np.searchsorted(i, i)
        few = place < self.kept
        i, j, values, place = i[few], j[few], values[few], place[few]
        distances = np.concatenate([known, np.full_like(known, np.inf)], axis=1)
        others = np.concatenate([self.rows[rows], np.zeros_like(self.rows[rows])], axis=1)
        distances[i, self.kept + place], others[i, self.kept + place] = values, j + columns.start
        nearest = np.argpartition(distances, self.kept - 1, axis=1)[:, : self.kept]
        self.distances[rows] = np.take_along_axis(distances, nearest, axis=1)
        self.rows[rows] = np.take_along_axis(others, nearest, axis=1)

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
    balls_around = np.zeros(len(y.norms), np.int64)
    recalled, covered = np.zeros(len(x.norms), np.bool_), np.zeros(len(x.norms), np.bool_)
    for rows, columns in tiles(len(x.norms), len(y.norms), block_size):
        distances = _squared_distances(x, rows, y, columns)
        i, j = _below(distances, radii_real[rows, np.newaxis], x, rows, y, columns)
        np.add.at(balls_around, j, 1)
        covered[i] = True
        i, _ = _below(distances, radii_generated[columns], x, rows, y, columns)
        recalled[i] = True
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


def _squared_distances(x: _Cloud, rows: slice, y: _Cloud, columns: slice) -> SingleArray:
    """Return squared distances of all pairs of rows, wrong by `_error` at most."""
    distances: SingleArray = x.single[rows] @ y.single[columns].T
    distances *= -2
    distances += x.norms[rows, np.newaxis]
    distances += y.norms[columns]
    return distances


def _error(x: _Cloud, rows: slice, y: _Cloud, columns: slice) -> float:
    """Return by how much any squared distance of a tile may be wrong at most, limits told in single precision included.

    With unit roundoff u a product of d terms is wrong by d u |x| |y| at most, whatever the order of its sum (Higham
    2002, equation 3.5); what else is rounded takes less than 16 u (|x|² + |y|²), and underflow less than 1e-30.
    """
    longest = float(x.norms[rows].max()) + float(y.norms[columns].max())
    terms: int = x.single.shape[1]
    return (terms + 24) * 2.0**-24 * longest + 1e-30


def _below(
    distances: SingleArray, limits: FloatArray, x: _Cloud, rows: slice, y: _Cloud, columns: slice
) -> tuple[Rows, Rows]:
    """Return the pairs of a tile whose squared distance is below the limit, which is exact; so is the answer."""
    error = _error(x, rows, y, columns)
    sure = distances < (limits - error).astype(np.float32)
    i, j = _places(sure)
    m, n = _places((distances <= (limits + error).astype(np.float32)) ^ sure)
    m, n = m + rows.start, n + columns.start
    is_below = _exact(x, m, y, n) < np.broadcast_to(limits, distances.shape)[m - rows.start, n - columns.start]
    return np.concatenate([i + rows.start, m[is_below]]), np.concatenate([j + columns.start, n[is_below]])


def _places(mask: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Return rows and columns of what is true; numpy finds them several times as fast along one axis as along two."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns


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
    near, errors = _Nearest(n, min(2 * k + 6, n - 1)), np.zeros(n)
    for rows, columns in tiles(n, n, block_size):
        # The matrix is symmetric: what lies above the diagonal is not computed.
        if columns.start > rows.start:
            continue
        distances, error = _squared_distances(cloud, rows, cloud, columns), _error(cloud, rows, cloud, columns)
        errors[rows] = np.maximum(errors[rows], error)
        errors[columns] = np.maximum(errors[columns], error)
        if columns == rows:
            np.fill_diagonal(distances, np.inf)
        else:
            j, i = _places(distances < near.limits[columns])
            near.add(columns, i, j + rows.start, distances[j, i])
        i, j = near.candidates(rows, distances)
        near.add(rows, i, j + columns.start, distances[i, j])
    return _exact_radii(cloud, near, errors, k)


def _exact_radii(cloud: _Cloud, near: "_Nearest", errors: FloatArray, k: int) -> FloatArray:
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
        self.limits = np.full(n, np.inf, np.float32)

    def candidates(self, rows: slice, tile: SingleArray) -> tuple[Rows, Rows]:
        """Return the entries of a tile that may be among the nearest of its rows."""
        i, j = _places(tile < self.limits[rows, np.newaxis])
        if len(i) <= 4 * self.kept * len(tile):
            return i, j
        # Most are nearer than what is known, as in the beginning: the nearest of each row are found all at once.
        nearest = np.argpartition(tile, min(self.kept, tile.shape[1]) - 1, axis=1)[:, : self.kept]
        return np.repeat(np.arange(len(tile)), nearest.shape[1]), nearest.ravel()

    def add(self, rows: slice, i: Rows, others: Rows, values: SingleArray) -> None:
        """Take note of the squared distances of some rows, the i-th of a block, to others."""
        order = np.lexsort((values, i))
        i, others, values = i[order], others[order], values[order]
        place = np.arange(len(i)) - np.searchsorted(i, i)
        few = place < self.kept
        i, others, values, place = i[few], others[few], values[few], place[few] + self.kept
        distances = np.concatenate([self.distances[rows], np.full_like(self.distances[rows], np.inf)], axis=1)
        known = np.concatenate([self.rows[rows], np.zeros_like(self.rows[rows])], axis=1)
        distances[i, place], known[i, place] = values, others
        nearest = np.argpartition(distances, self.kept - 1, axis=1)[:, : self.kept]
        self.distances[rows] = np.take_along_axis(distances, nearest, axis=1)
        self.rows[rows] = np.take_along_axis(known, nearest, axis=1)
        self.limits[rows] = self.distances[rows].max(axis=1)

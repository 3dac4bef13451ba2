"""Kernel distance: unbiased squared MMD of features under a cubic kernel (Bińkowski et al. 2018, arXiv:1801.01401)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.metrics.features import Array, check_feature_pair, tiles

FloatArray = NDArray[np.float64]

SINGLE = 1e6
"""Magnitude below which the sixth powers of features fit float32."""


class _KernelSums(NamedTuple):
    """Kernel values summed for each row: with the other rows of its own set, and across with the other set."""

    within_real: FloatArray
    within_generated: FloatArray
    across_real: FloatArray
    across_generated: FloatArray


def kernel_distance(real: ArrayLike, generated: ArrayLike, *, block_size: int = 1024) -> float:
    """Return the unbiased squared MMD of features (n_real, d) and (n_generated, d), raw: not multiplied by 1000.

    The kernel is (x·y / d + 1)³ and every pair of rows counts, without drawing subsets. The estimate is unbiased at any
    number of rows, hence slightly negative about half of the time when both sets come from one distribution. Memory is
    that of a few tiles of `block_size` squared. Of single precision features the kernel too is computed in single
    precision, and summed in double: its rounding errors are as often up as down, and hardly anything is left of them.

    Raises:
        SimulacraError: where either array has fewer than two rows, is not finite, or their dimensions differ.
    """
    real, generated = check_feature_pair(real, generated)
    return _estimate(_kernel_sums(real, generated, block_size))


def kernel_distance_with_error(real: ArrayLike, generated: ArrayLike, *, block_size: int = 1024) -> tuple[float, float]:
    """Return the unbiased squared MMD, raw, and its standard error over drawing both sets anew.

    The standard error is the two-sample jackknife: the estimate is recomputed without each row in turn, which needs
    only the sums of the kernel matrix, and the two sets' variances are added. It errs on the side of caution (Efron &
    Stein 1981), by a factor of up to √2 when the two distributions are equal.

    Raises:
        SimulacraError: where either array has fewer than three rows, is not finite, or their dimensions differ.
    """
    real, generated = check_feature_pair(real, generated, minimum=3)
    sums = _kernel_sums(real, generated, block_size)
    variance = _jackknife_variance(sums.within_real, sums.across_real, len(generated))
    variance += _jackknife_variance(sums.within_generated, sums.across_generated, len(real))
    return _estimate(sums), float(np.sqrt(variance))


def _estimate(sums: _KernelSums) -> float:
    """Return the unbiased estimate (Gretton et al. 2012, equation 3) from the sums of the kernel matrix."""
    n_real, n_generated = len(sums.within_real), len(sums.within_generated)
    within_real = sums.within_real.sum() / (n_real * (n_real - 1))
    within_generated = sums.within_generated.sum() / (n_generated * (n_generated - 1))
    return float(within_real + within_generated - 2 * sums.across_real.sum() / (n_real * n_generated))


def _jackknife_variance(within: FloatArray, across: FloatArray, n_other: int) -> float:
    """Return the share of the variance that comes from drawing one set, from the estimates without each of its rows."""
    n = len(within)
    without_row = (within.sum() - 2 * within) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * n_other)
    return float((n - 1) * without_row.var())


def _kernel_sums(real: Array, generated: Array, block_size: int) -> _KernelSums:
    """Return the sums of the kernel matrix that estimate and jackknife need, visiting one tile at a time."""
    single = all(each.dtype in (np.float16, np.float32) and np.abs(each).max() < SINGLE for each in (real, generated))
    real, generated = (each.astype(np.float32 if single else np.float64, copy=False) for each in (real, generated))
    within_real, within_generated = _sums_within(real, block_size), _sums_within(generated, block_size)
    return _KernelSums(within_real, within_generated, *_sums_across(real, generated, block_size))


def _sums_within(features: Array, block_size: int) -> FloatArray:
    """Return the sums of the kernel matrix of a set with itself, a row not paired with itself."""
    sums = np.zeros(len(features))
    for rows, columns in tiles(len(features), len(features), block_size):
        # The matrix is symmetric: what lies above the diagonal is not computed.
        if columns.start > rows.start:
            continue
        tile = _kernel(features[rows], features[columns])
        if columns == rows:
            np.fill_diagonal(tile, 0.0)
        else:
            sums[columns] += tile.sum(axis=0, dtype=np.float64)
        sums[rows] += tile.sum(axis=1, dtype=np.float64)
    return sums


def _sums_across(first: Array, second: Array, block_size: int) -> tuple[FloatArray, FloatArray]:
    """Return the sums of the kernel matrix of two sets over its columns and over its rows."""
    over_columns, over_rows = np.zeros(len(first)), np.zeros(len(second))
    for rows, columns in tiles(len(first), len(second), block_size):
        tile = _kernel(first[rows], second[columns])
        over_columns[rows] += tile.sum(axis=1, dtype=np.float64)
        over_rows[columns] += tile.sum(axis=0, dtype=np.float64)
    return over_columns, over_rows


def _kernel(first: Array, second: Array) -> Array:
    """Return (x·y / d + 1)³ for all pairs of rows, by products, which are far quicker than a power."""
    base: Array = first @ second.T
    base /= first.shape[1]
    base += 1
    cube: Array = base * base
    cube *= base
    return cube

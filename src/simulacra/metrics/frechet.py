"""Fréchet distance of Gaussians fitted to features (Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import LARGEST_FEATURE, Array, blocks, check_feature_pair, check_features

FloatArray = NDArray[np.float64]

SMALLEST = 0.2
"""Of all rows, the share that the smallest subset has where the distance of infinitely many is looked for."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and unbiased covariance of n feature vectors.

    Args:
        mean: (d,).
        covariance: (d, d), symmetric, divided by n − 1.
        n: how many vectors they come from.

    Raises:
        SimulacraError: where shapes disagree, numbers are not finite, or the covariance is not symmetric.

    Example:
        >>> import numpy as np
        >>> near, far = Moments(np.zeros(2), np.eye(2), 100), Moments(np.array([3.0, 4.0]), np.eye(2), 100)
        >>> round(frechet_distance_from_moments(near, far), 6)
        25.0
    """

    mean: FloatArray
    covariance: FloatArray
    n: int

    def __post_init__(self) -> None:
        """Refuse moments from which no distance follows."""
        if self.mean.ndim != 1 or self.covariance.shape != 2 * self.mean.shape:
            raise SimulacraError(
                f"moments must be a mean (d,) and a covariance (d, d), "
                f"got {self.mean.shape} and {self.covariance.shape}"
            )
        for name, array in (("mean", self.mean), ("covariance", self.covariance)):
            bad = array.size - np.count_nonzero(np.abs(array) <= LARGEST_FEATURE**2)
            if bad:
                raise SimulacraError(f"{name} holds {bad} of {array.size} numbers that are not finite or far too large")
        if not np.allclose(self.covariance, self.covariance.T, rtol=1e-6, atol=1e-6 * np.abs(self.covariance).max()):
            raise SimulacraError("covariance is not symmetric; compute it with moments()")


def moments(features: ArrayLike) -> Moments:
    """Return mean and unbiased covariance (ddof 1) of features (n, d), n at least 2.

    Raises:
        SimulacraError: as `simulacra.metrics.features.check_features`.
    """
    return _moments(check_features(features, "features"))


def frechet_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the Fréchet distance of features (n_real, d) and (n_generated, d), in squared units of the features.

    It is ‖μ₁−μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½ (Dowson & Landau 1982, equation 4) with unbiased covariances.
    Its expectation falls with n, so compare only distances at the same n. With no more rows than columns no d × d
    matrix is formed: for centred features A and B, scaled so that Σ₁ = AᵀA and Σ₂ = BᵀB, the last trace is the nuclear
    norm of A Bᵀ.

    Raises:
        SimulacraError: where either array has fewer than two rows, is not finite, or their dimensions differ.
    """
    real, generated = check_feature_pair(real, generated)
    if min(len(real), len(generated)) > real.shape[1]:
        return frechet_distance_from_moments(_moments(real), _moments(generated))
    (mean_real, factor_real), (mean_generated, factor_generated) = _factor(real), _factor(generated)
    traces = float(np.vdot(factor_real, factor_real) + np.vdot(factor_generated, factor_generated))
    return _distance(mean_real, mean_generated, traces, _nuclear_norm(factor_real @ factor_generated.T))


def frechet_distance_from_moments(first: Moments, second: Moments) -> float:
    """Return the Fréchet distance of two sets of moments, for instance of stored reference statistics.

    Raises:
        SimulacraError: where dimensions differ or a covariance has a negative eigenvalue.
    """
    if first.mean.shape != second.mean.shape:
        raise SimulacraError(
            f"moments of {len(first.mean)} and {len(second.mean)} dimensions; take both from the same extractor"
        )
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    return _distance(first.mean, second.mean, traces, _trace_of_root(first.covariance, second.covariance))


def frechet_distance_at_infinity(
    real: ArrayLike, generated: ArrayLike, *, n_points: int = 15, smallest: float = SMALLEST, seed: int = 0
) -> float:
    """Return the Fréchet distance that infinitely many rows would have, extrapolated.

    The distance's bias falls as 1/n, so a line through the distances of `n_points` random subsets against 1/n meets the
    axis at what is left without bias (Chong & Forsyth 2020, arXiv:1911.07023, section 3). They thin the generated rows
    alone and take the real moments as given; here both sets are thinned to the same n, since both are samples. The line
    holds once n is well above the number of columns; the extrapolation varies more than the distance itself, and may
    fall below 0.

    Args:
        real: (n_real, d).
        generated: (n_generated, d).
        n_points: subsets, their sizes evenly spaced.
        smallest: the smallest of them, as a share of the lesser number of rows.
        seed: for drawing them.

    Raises:
        SimulacraError: where the smallest subset has no more rows than there are columns; names how many rows are
            needed. As `frechet_distance` besides.
    """
    real, generated = check_feature_pair(real, generated)
    n, d = min(len(real), len(generated)), real.shape[1]
    sizes = np.linspace(smallest * n, n, n_points).astype(np.int64)
    if n_points < 2 or n < rows_for_infinity(d, smallest=smallest):
        raise SimulacraError(
            f"the distance of infinitely many rows needs two subsets or more, the smallest of them of more rows than "
            f"{d}, the number of columns; with smallest={smallest:g} bring {rows_for_infinity(d, smallest=smallest)} "
            f"rows, not {n}"
        )
    generator = np.random.default_rng(seed)
    found = [
        frechet_distance(*(each[generator.permutation(len(each))[:size]] for each in (real, generated)))
        for size in sizes
    ]
    _, intercept = np.polyfit(1 / sizes, found, 1)
    return float(intercept)


def rows_for_infinity(d: int, *, smallest: float = SMALLEST) -> int:
    """Return how many rows of d columns `frechet_distance_at_infinity` needs at least.

    Example:
        >>> rows_for_infinity(64)
        325
    """
    return math.ceil((d + 1) / smallest)


def _moments(features: Array) -> Moments:
    """Return the moments of checked features, in two passes over blocks of rows."""
    mean = features.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    # Each block costs an addition of d × d numbers, so larger ones than elsewhere.
    for _, block in blocks(features, 2048):
        centred = block - mean
        scatter += centred.T @ centred
    return Moments(mean, scatter / (len(features) - 1), len(features))


def _distance(mean_first: FloatArray, mean_second: FloatArray, traces: float, trace_of_root: float) -> float:
    """Return the distance from its parts, with what rounding takes below zero set to zero."""
    return max(0.0, float(np.square(mean_first - mean_second).sum()) + traces - 2 * trace_of_root)


def _factor(features: Array) -> tuple[FloatArray, FloatArray]:
    """Return the mean and F with Fᵀ F the covariance: the centred rows, or the QR factor where it has fewer."""
    mean = features.mean(axis=0, dtype=np.float64)
    centred: FloatArray = features - mean
    centred /= np.sqrt(len(features) - 1)
    return mean, centred if len(centred) <= centred.shape[1] else np.linalg.qr(centred).R


def _trace_of_root(first: FloatArray, second: FloatArray) -> float:
    """Return tr (Σ₁Σ₂)^½: with Σ₂ = L Lᵀ, the eigenvalues of Σ₁Σ₂ are those of the symmetric Lᵀ Σ₁ L."""
    from scipy.linalg import LinAlgError, eigh

    try:
        # Divide and conquer, the default, pays for eigenvectors only; scipy's stubs do not know the other driver.
        eigenvalues = eigh(first, second, type=2, driver="gv", eigvals_only=True, check_finite=False)  # type: ignore[call-overload]
    except LinAlgError:
        # A dead unit or a repeated feature makes Σ₂ singular; square roots of rounding errors would then add up.
        return _nuclear_norm(_root(first).T @ _root(second))
    return float(np.sqrt(_non_negative(eigenvalues)).sum())


def _root(covariance: FloatArray) -> FloatArray:
    """Return F (d, rank) with F Fᵀ the covariance, from its eigenvectors."""
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues = _non_negative(eigenvalues)
    kept = eigenvalues > len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues.max()
    root: FloatArray = eigenvectors[:, kept] * np.sqrt(eigenvalues[kept])
    return root


def _non_negative(eigenvalues: FloatArray) -> FloatArray:
    """Return eigenvalues with negative rounding errors set to zero, refusing truly negative ones."""
    bad = np.count_nonzero(eigenvalues < -1e-6 * np.abs(eigenvalues).max())
    if bad:
        raise SimulacraError(f"covariance has {bad} negative eigenvalues; compute it with moments()")
    return np.maximum(eigenvalues, 0.0)


def _nuclear_norm(matrix: FloatArray) -> float:
    """Return the sum of singular values."""
    from scipy.linalg import svdvals

    return float(svdvals(matrix).sum()) if matrix.size else 0.0

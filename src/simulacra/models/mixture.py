"""Gaussian mixtures over vectors, with full covariances or of factor analysers: EM, and components by BIC or AIC."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

Array = NDArray[np.float64]
Statistics = dict[str, Array]
Covariance = Literal["full", "tied", "diag", "factor_analysis"]
Criterion = Literal["bic", "aic", "largest"]

ROWS = 10_000
"""Rows that EM works on at once; data of more rows are never worked on as a whole."""
FEW_ROWS = 2000
"""Data of no more rows are worked on by one thread."""
MIN_ROWS_PER_COMPONENT = 5
"""A mixture is not offered more components than leave each so many rows on average."""
TOLERANCE = 1e-3
"""EM of full covariances stops when an iteration gains less than this, in nats per vector."""
TOLERANCE_PER_DIM = 5e-4
"""EM of factor analysers stops when an iteration gains less than this, in nats per vector and dimension."""
NEGLIGIBLE = 1e-16
"""Rows that a component is less responsible for are left out of its sums, whose last digit they would not change."""
LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Prior:
    """What keeps variances from collapsing onto few rows; nothing by default, so that EM maximises the likelihood.

    Args:
        reg_covar: added to every variance.
        variances: of each coordinate, what the noise of factor analysers is drawn to, (d,).
        rows: as if each factor analyser had so many more rows of that noise.
    """

    reg_covar: float = 0.0
    variances: Array | float = 0.0
    rows: float = 0.0

    def noise(self, residuals: Array, count: Array | float) -> Array:
        """Return the variances of a factor analyser's noise: the maximum a posteriori under an inverse-gamma prior.

        Args:
            residuals: sum over its rows of the squares that the factors do not explain, (d,).
            count: rows that it has.
        """
        drawn = np.maximum(residuals, 0) + self.rows * self.variances
        return np.asarray(drawn / (count + self.rows) + self.reg_covar)


class Mixture:
    """A density over vectors: p(z) = Σ_k w_k N(z; μ_k, L_k L_kᵀ).

    Args:
        weights: w, (k,).
        means: μ, (k, d).
        factors: Cholesky factors L, (k, d, d); (1, d, d) where the components share one.

    Example:
        >>> mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
        >>> mixture.log_density(np.zeros((1, 2))).round(4)
        array([-1.8379])
    """

    def __init__(self, weights: Array, means: Array, factors: Array) -> None:
        self.weights, self.means, self.factors = weights, means, factors

    def log_density(self, z: Array) -> Array:
        """Return log p(z) in nats, (n, d) to (n,)."""
        return np.asarray(np.logaddexp.reduce(self.joint(z), axis=1))

    def joint(self, z: Array) -> Array:
        """Return log w_k N(z; μ_k, Σ_k) of each component in nats, (n, d) to (n, k)."""
        from scipy.linalg import solve_triangular

        found = np.empty((len(z), len(self.weights)))
        for k, mean in enumerate(self.means):
            factor = self.factors[k % len(self.factors)]
            squares = np.square(solve_triangular(factor, (z - mean).T, lower=True)).sum(0)
            found[:, k] = -0.5 * (squares + len(mean) * LOG_2PI) - np.log(np.diag(factor)).sum()
        return found + np.log(self.weights)

    def sample(self, n: int, rng: np.random.Generator, *, noise: bool = True) -> Array:
        """Draw n vectors, (n, d).

        Args:
            n: how many.
            rng: where they are drawn from.
            noise: whether factor analysers add the noise of each coordinate; without factors there is none.
        """
        component = rng.choice(len(self.weights), size=n, p=self.weights / self.weights.sum())
        scores = rng.standard_normal((n, self.factors.shape[2]))
        z = self.means[component]
        for k in np.unique(component):
            rows = component == k
            z[rows] += scores[rows] @ self.factors[k % len(self.factors)].T
        return z + self._noise(component, rng) if noise else z

    def _noise(self, component: NDArray[np.int64], rng: np.random.Generator) -> Array:
        """Return what each coordinate adds of its own, (n, d) or something that broadcasts to it."""
        return np.zeros(1)

    def covariances(self) -> Array:
        """Return Σ_k, (k, d, d)."""
        of_each = self.factors @ self.factors.transpose(0, 2, 1)
        return np.broadcast_to(of_each, (len(self.weights), *of_each.shape[1:]))

    def n_parameters(self) -> int:
        """Count the free numbers: a symmetric matrix has half as many as entries, weights that sum to 1 one less."""
        dim = self.means.shape[1]
        return int(len(self.weights) - 1 + self.means.size + len(self.factors) * dim * (dim + 1) // 2)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the parameters as named arrays."""
        return {"weights": self.weights, "means": self.means, "factors": self.factors}

    @staticmethod
    def from_tensors(tensors: Mapping[str, NDArray[Any]]) -> "Mixture":
        """Take back what `tensors` returned."""
        return FactorMixture(**tensors) if "variances" in tensors else Mixture(**tensors)

    def sums(self, z: Array, responsibilities: Array) -> Statistics:
        """Return what a step of EM needs to know of rows z (n, d), as sums that add up over parts of the data.

        Deviations are from the present means, so that nothing cancels.
        """
        k, dim = self.means.shape
        found = {"counts": responsibilities.sum(0), "sums": np.zeros((k, dim)), "products": np.zeros((k, dim, dim))}
        for j, deviations, weighted in self._shares(z, responsibilities):
            found["sums"][j] = weighted.sum(0)
            found["products"][j] = weighted.T @ deviations
        return found

    def _shares(self, z: Array, responsibilities: Array) -> Iterator[tuple[int, Array, Array]]:
        """Yield component, deviations from its mean, and the same times its responsibilities, of the rows it has."""
        for j, mean in enumerate(self.means):
            rows = np.flatnonzero(responsibilities[:, j] > NEGLIGIBLE)
            deviations = z[rows] - mean
            yield j, deviations, responsibilities[rows, j, None] * deviations

    def maximised(self, sums: Statistics, prior: Prior) -> Self:
        """Return the mixture after the M step."""
        counts = _not_zero(sums["counts"])
        moves = sums["sums"] / counts[:, None]
        outer = np.einsum("ki,kj->kij", moves, moves) * counts[:, None, None]
        scatter, mass = sums["products"] - outer, counts
        if len(self.factors) < len(counts):
            scatter, mass = scatter.sum(0, keepdims=True), counts.sum(keepdims=True)
        covariances = scatter / mass[:, None, None] + prior.reg_covar * np.eye(self.means.shape[1])
        return type(self)(counts / counts.sum(), self.means + moves, np.linalg.cholesky(covariances))


class FactorMixture(Mixture):
    """A mixture of factor analysers: p(z) = Σ_k w_k N(z; μ_k, Λ_k Λ_kᵀ + diag ψ_k).

    A vector is z = μ + Λ f + ε with few factors f ~ N(0, I) and a noise ε ~ N(0, diag ψ) of each coordinate's own;
    without factors the covariances are diagonal. By Woodbury's identity no d × d matrix is needed, so d may be large.

    References:
        Ghahramani & Hinton (1996), "The EM algorithm for mixtures of factor analyzers", CRG-TR-96-1.

    Args:
        weights: w, (k,).
        means: μ, (k, d).
        factors: loadings Λ, (k, d, q).
        variances: ψ, (k, d).

    Example:
        >>> mixture = FactorMixture(np.ones(1), np.zeros((1, 3)), np.ones((1, 3, 1)), np.ones((1, 3)))
        >>> mixture.covariances()[0]
        array([[2., 1., 1.],
               [1., 2., 1.],
               [1., 1., 2.]])
    """

    def __init__(self, weights: Array, means: Array, factors: Array, variances: Array) -> None:
        super().__init__(weights, means, factors)
        self.variances = variances

    def joint(self, z: Array) -> Array:
        """Return log w_k N(z; μ_k, Σ_k) of each component in nats, (n, d) to (n, k)."""
        centre = self.weights @ self.means
        z, means, precisions = z - centre, self.means - centre, 1 / self.variances
        squares = np.square(z) @ precisions.T - 2 * z @ (precisions * means).T + (precisions * means**2).sum(1)
        loadings, posterior = self._posterior()
        # Of Σ⁻¹, what the factors take off ψ⁻¹: the square of Cᵀ Λᵀ ψ⁻¹ (z − μ) with C Cᵀ = (I + Λᵀ ψ⁻¹ Λ)⁻¹.
        halves = loadings @ np.linalg.cholesky(posterior)
        for k, half in enumerate(halves):
            squares[:, k] -= np.square(z @ half - means[k] @ half).sum(1)
        log_dets = np.log(self.variances).sum(1) - np.linalg.slogdet(posterior).logabsdet
        return np.asarray(np.log(self.weights) - 0.5 * (squares + log_dets + z.shape[1] * LOG_2PI))

    def _posterior(self) -> tuple[Array, Array]:
        """Return ψ⁻¹ Λ, (k, d, q), and the factors' covariance given z, (I + Λᵀ ψ⁻¹ Λ)⁻¹, (k, q, q)."""
        loadings = self.factors / self.variances[:, :, None]
        precision = np.eye(self.factors.shape[2]) + self.factors.transpose(0, 2, 1) @ loadings
        return loadings, np.asarray(np.linalg.inv(precision), np.float64)

    def _noise(self, component: NDArray[np.int64], rng: np.random.Generator) -> Array:
        return np.sqrt(self.variances)[component] * rng.standard_normal((len(component), self.means.shape[1]))

    def covariances(self) -> Array:
        """Return Σ_k, (k, d, d)."""
        return super().covariances() + self.variances[:, :, None] * np.eye(self.means.shape[1])

    def n_parameters(self) -> int:
        """Count the free numbers; factors may be turned among themselves without another density."""
        k, dim, q = self.factors.shape
        return int(k - 1 + k * (dim * (q + 2) - q * (q - 1) // 2))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the parameters as named arrays."""
        return super().tensors() | {"variances": self.variances}

    def sums(self, z: Array, responsibilities: Array) -> Statistics:
        """Return what a step of EM needs to know of rows z (n, d), as sums that add up over parts of the data."""
        found = {"counts": responsibilities.sum(0), "sums": np.zeros_like(self.means)}
        found |= {"products": np.zeros_like(self.factors), "squares": np.zeros_like(self.means)}
        loadings, posterior = self._posterior()
        scores = loadings @ posterior  # E[f | z] = (z − μ) · scores
        for j, deviations, weighted in self._shares(z, responsibilities):
            found["sums"][j] = weighted.sum(0)
            found["products"][j] = weighted.T @ (deviations @ scores[j])
            found["squares"][j] = np.einsum("nd,nd->d", weighted, deviations)
        return found

    def maximised(self, sums: Statistics, prior: Prior) -> Self:
        """Return the mixture after the M step, which regresses z on its factors and a constant."""
        counts = _not_zero(sums["counts"])
        loadings, posterior = self._posterior()
        factors, means, variances = (np.empty_like(part) for part in (self.factors, self.means, self.variances))
        for k, count in enumerate(counts):
            scores, products, total = loadings[k] @ posterior[k], sums["products"][k], sums["sums"][k]
            ones = np.append(total @ scores, count)
            regressors = np.block([[count * posterior[k] + scores.T @ products, ones[:-1, None]], [ones[None]]])
            targets = np.column_stack([products, total])
            solution = np.linalg.solve(regressors, targets.T).T
            factors[k], means[k] = solution[:, :-1], self.means[k] + solution[:, -1]
            variances[k] = prior.noise(sums["squares"][k] - (solution * targets).sum(1), count)
        return type(self)(counts / counts.sum(), means, factors, variances)


def em(
    z: Array, start: Mixture, *, prior: Prior = Prior(), max_iter: int = 100, tolerance: float = TOLERANCE
) -> tuple[Mixture, list[float]]:
    """Improve a mixture by exact EM, in parts of the data so that memory stays bounded.

    Args:
        z: vectors, (n, d).
        start: where to begin.
        prior: keeps variances from collapsing. Without it the likelihood never decreases.
        max_iter: M steps at most.
        tolerance: nats per vector that an iteration must gain for another one to follow.

    Returns:
        The mixture, and the mean log-likelihood in nats before each step.
    """
    mixture, curve = start, list[float]()
    for _ in range(max_iter):
        sums: Statistics = {}
        total = 0.0
        for part in _parts(z):
            joint = mixture.joint(part)
            log_density = np.logaddexp.reduce(joint, axis=1)
            total += log_density.sum()
            found = mixture.sums(part, np.exp(joint - log_density[:, None]))
            sums = {key: sums.get(key, 0) + value for key, value in found.items()}
        curve.append(float(total) / len(z))
        if len(curve) > 1 and curve[-1] - curve[-2] < tolerance:
            break
        mixture = mixture.maximised(sums, prior)
    return mixture, curve


def fit_mixture(
    z: Array,
    *,
    components: Sequence[int] = (1, 2, 4, 8),
    covariance: Covariance = "full",
    n_factors: int = 8,
    criterion: Criterion = "bic",
    reg_covar: float = 1e-4,
    prior_rows: float = 0.0,
    max_iter: int = 100,
    seed: int = 0,
) -> tuple[Mixture, dict[int, dict[str, float]]]:
    """Fit a mixture of each number of components by EM and return the best, with every candidate's BIC and AIC.

    scikit-learn fits full, tied and diagonal covariances to up to `ROWS` vectors. More vectors, and factor analysers,
    are fitted by `em`.

    Args:
        z: vectors, (n, d).
        components: numbers of components to choose from.
        covariance: shape of the components' covariances.
        n_factors: factors of each factor analyser.
        criterion: what the best mixture has least of (Schwarz, 1978; Akaike, 1974), or "largest", which takes the most
            components that there are rows for.
        reg_covar: added to every variance.
        prior_rows: as if each factor analyser had so many more rows, with noise as wide as the data's variances.
        max_iter: iterations of EM at most.
        seed: decides the initialisation.

    Raises:
        SimulacraError: where there are fewer vectors than components.
    """
    from threadpoolctl import threadpool_limits

    smallest = min(components)
    if len(z) <= smallest:
        raise SimulacraError(f"{len(z)} rows are too few for {smallest} components; lower the least of `components`")
    candidates = sorted({k for k in components if k == smallest or k * MIN_ROWS_PER_COMPONENT <= len(z)})
    fit = _fitter(z, covariance, n_factors, Prior(reg_covar, _variances(z), prior_rows), max_iter, seed)
    # Few rows make small matrices, which gain nothing by threads and lose tenfold where other work wants the cores.
    with threadpool_limits(1 if len(z) <= FEW_ROWS else None):
        fits = {k: fit(k) for k in candidates}
    scores = {k: information(fit, z) for k, fit in fits.items()}
    if criterion == "largest":
        return fits[max(fits)], scores
    return fits[min(scores, key=lambda k: scores[k][criterion])], scores


def information(mixture: Mixture, z: Array) -> dict[str, float]:
    """Return −2 Σ log p(z) with what each criterion adds a free number: "bic" ln n, "aic" 2."""
    deviance = -2 * sum(float(mixture.log_density(part).sum()) for part in _parts(z))
    free = mixture.n_parameters()
    return {"bic": deviance + free * float(np.log(len(z))), "aic": deviance + 2 * free}


def _parts(z: Array) -> Iterator[Array]:
    for start in range(0, len(z), ROWS):
        yield z[start : start + ROWS]


def _variances(z: Array) -> Array:
    mean = z.mean(0)
    return np.asarray(sum(np.square(part - mean).sum(0) for part in _parts(z)) / len(z))


def _not_zero(counts: Array) -> Array:
    """Return counts that can be divided by, as scikit-learn makes them."""
    return counts + 10 * np.finfo(np.float64).eps


def _fitter(
    z: Array, covariance: Covariance, n_factors: int, prior: Prior, max_iter: int, seed: int
) -> Callable[[int], Mixture]:
    """Return what fits k components to the data."""

    def analyse(k: int) -> Mixture:
        start = _factor_start(z, k, min(n_factors, z.shape[1] - 1), prior, seed)
        return em(z, start, prior=prior, max_iter=max_iter, tolerance=TOLERANCE_PER_DIM * z.shape[1])[0]

    def in_parts(k: int) -> Mixture:
        bare = Prior(prior.reg_covar)
        return em(z, _start(z, k, covariance, bare, seed), prior=bare, max_iter=max_iter)[0]

    def by_scikit_learn(k: int) -> Mixture:
        from sklearn.mixture import GaussianMixture as Reference

        options = {"covariance_type": covariance, "reg_covar": prior.reg_covar, "max_iter": max_iter}
        fit = Reference(k, random_state=seed, **options).fit(z)
        return _taken_over(covariance, fit.weights_, fit.means_, fit.covariances_)

    if covariance == "factor_analysis":
        return analyse
    return in_parts if len(z) > ROWS else by_scikit_learn


def _taken_over(covariance: Covariance, weights: Array, means: Array, covariances: Array) -> Mixture:
    """Return scikit-learn's arrays as this module's classes."""
    dim = means.shape[1]
    if covariance == "diag":
        return FactorMixture(weights, means, np.zeros((len(weights), dim, 0)), covariances)
    return Mixture(weights, means, np.asarray(np.linalg.cholesky(covariances.reshape(-1, dim, dim)), np.float64))


def _start(z: Array, k: int, covariance: Covariance, prior: Prior, seed: int) -> Mixture:
    """Return where EM of full, tied or diagonal covariances begins: the moments of clusters."""
    if covariance == "diag":
        return _factor_start(z, k, 0, prior, seed)
    rows, belongs, centres = _clusters(z, k, seed)
    dim = z.shape[1]
    blank = Mixture(_shares_of(belongs), centres, np.zeros((1 if covariance == "tied" else k, dim, dim)))
    return blank.maximised(blank.sums(rows, belongs), prior)


def _factor_start(z: Array, k: int, n_factors: int, prior: Prior, seed: int) -> FactorMixture:
    """Return where EM of factor analysers begins: the principal axes of clusters."""
    rows, belongs, centres = _clusters(z, k, seed)
    factors, variances = np.zeros((k, z.shape[1], n_factors)), np.empty_like(centres)
    for j, centre in enumerate(centres):
        deviations = rows[belongs[:, j] == 1] - centre
        factors[j] = _principal_axes(deviations, n_factors, seed)
        unexplained = np.square(deviations).sum(0) - len(deviations) * np.square(factors[j]).sum(1)
        variances[j] = prior.noise(unexplained, _not_zero(belongs[:, j : j + 1].sum(0)))
    return FactorMixture(_shares_of(belongs), centres, factors, variances)


def _clusters(z: Array, k: int, seed: int) -> tuple[Array, Array, Array]:
    """Return `ROWS` rows at most (n, d), which of k clusters by k-means each belongs to (n, k), the centres (k, d)."""
    from sklearn.cluster import KMeans

    rows = z if len(z) <= ROWS else z[np.random.default_rng(seed).permutation(len(z))[:ROWS]]
    found = KMeans(k, n_init=1, random_state=seed).fit(rows)
    return rows, np.eye(k)[found.labels_], np.asarray(found.cluster_centers_, np.float64)


def _shares_of(belongs: Array) -> Array:
    """Return the weights that clusters give their components; k-means leaves some empty where rows are alike."""
    counts = _not_zero(belongs.sum(0))
    return np.asarray(counts / counts.sum())


def _principal_axes(deviations: Array, n: int, seed: int) -> Array:
    """Return the first n principal axes, each times its standard deviation, (d, n); zeros where rows are too few."""
    from sklearn.utils.extmath import randomized_svd

    axes = np.zeros((deviations.shape[1], n))
    rank = min(n, *deviations.shape)
    if rank:
        _, scales, directions = randomized_svd(deviations, rank, random_state=seed)
        axes[:, :rank] = directions.T * scales / np.sqrt(len(deviations))
    return axes

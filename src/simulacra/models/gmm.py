"""Gaussian mixture over principal components; EM by scikit-learn, components by BIC (Schwarz, 1978)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import LOG_DET_SCALING, Likelihood, dequantise
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.training.config import TrainingConfig
from simulacra.training.history import Callback, History
from simulacra.training.noise import Noise

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture as Mixture

Array = NDArray[np.float64]

CHUNK = 10_000
"""Images that are worked on at once: as floating-point numbers they take many times the room."""

MIN_ROWS_PER_COMPONENT = 5
"""A mixture is not offered more components than leave each so many rows on average."""


class GMMConfig(ModelConfig):
    """Hyper-parameters of the Gaussian mixture."""

    pca_dim: int = Field(48, ge=1, description="principal components that the mixture is over")
    components: tuple[PositiveInt, ...] = Field(
        (1, 2, 4, 8), min_length=1, description="numbers of components to choose from"
    )
    covariance: Literal["full", "tied", "diag"] = Field("full", description="shape of the components' covariances")
    reg_covar: float = Field(1e-4, gt=0, description="added to every variance; pixels lie in [-1, 1]")
    max_iter: int = Field(100, ge=1, description="iterations of EM at most")
    conditional: bool = Field(True, description="one mixture a class where the data carry classes")
    observation_noise: bool = Field(False, description="add the variance outside the principal components to samples")


class GaussianMixture(DensityModel):
    """A proper density over pixels: a mixture inside the principal subspace, an isotropic Gaussian outside it.

    x = μ + W z + ε with z from the mixture of its class and ε ~ N(0, σ² I) orthogonal to W, σ² being the mean of the
    variances that PCA leaves out, so p(x) = p_mixture(Wᵀ(x − μ)) · N(residual; 0, σ²) over all pixels.

    References:
        Dempster, Laird & Rubin (1977) for EM; Tipping & Bishop (1999) for the noise outside the subspace.

    Args:
        config: a GMMConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> model = GaussianMixture(GMMConfig(pca_dim=4, components=(1, 2)))
        >>> history = model.fit(
        ...     fabricate_images(n=60, size=8, channels=1, n_classes=2, seed=0), training=TrainingConfig())
        >>> model.sample(3, condition=1, seed=0).labels
        array([1, 1, 1])
    """

    name = "gmm"
    Config = GMMConfig
    config: GMMConfig

    chunk = CHUNK

    @property
    def likelihood(self) -> Likelihood:
        """Say what the nats are of."""
        return Likelihood(bound=False, dequantisation="uniform", classes_summed_out=self.conditional)

    def fit(
        self,
        train: ImageSet,
        *,
        validation: ImageSet | None = None,
        training: TrainingConfig,
        seed: int = 0,
        checkpoints: Path | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Fit PCA, then per class the mixture with the lowest BIC; the curve is BIC against components."""
        from sklearn.decomposition import PCA

        self.remember(train)
        images = train.images.reshape(len(train), -1)
        x = dequantise(images, np.random.default_rng(seed).random(images.shape))
        # One dimension at least stays outside, so that the density covers all pixels.
        dim = min(self.config.pca_dim, len(x) - 1, x.shape[1] - 1)
        pca = PCA(dim, svd_solver="covariance_eigh" if x.shape[1] <= 4096 else "randomized", random_state=seed).fit(x)
        # One memory order for fitted and loaded arrays: products in another order round differently.
        axes = np.ascontiguousarray(pca.components_)
        self._arrays = {"mean": pca.mean_, "axes": axes, "noise_variance": np.array([pca.noise_variance_])}
        z = pca.transform(x)
        labels = train.labels if self.conditional and train.labels is not None else np.zeros(len(z), np.int64)
        history = History()
        bic: dict[int, list[float]] = {}
        for label in range(len(self.class_names) if self.conditional else 1):
            best, scores = self._choose(z[labels == label], seed)
            self._keep(label, best)
            for components, score in scores.items():
                bic.setdefault(components, []).append(score)
        for components, class_scores in sorted(bic.items()):
            history.add(components, "train", {"bic": float(np.mean(class_scores))})
            for callback in callbacks:
                callback(components, "train", {"bic": float(np.mean(class_scores))})
        return history

    def _choose(self, z: Array, seed: int) -> tuple["Mixture", dict[int, float]]:
        """Return the mixture with the lowest BIC, and every candidate's BIC."""
        from sklearn.mixture import GaussianMixture as Mixture

        smallest = min(self.config.components)
        candidates = [k for k in self.config.components if k == smallest or k * MIN_ROWS_PER_COMPONENT <= len(z)]
        if len(z) <= smallest:
            raise SimulacraError(f"{len(z)} rows are too few for {smallest} components; lower gmm.model.components")
        fits = {
            k: Mixture(
                k,
                covariance_type=self.config.covariance,
                reg_covar=self.config.reg_covar,
                max_iter=self.config.max_iter,
                random_state=seed,
            ).fit(z)
            for k in candidates
        }
        scores = {k: float(mixture.bic(z)) for k, mixture in fits.items()}
        return fits[min(scores, key=lambda k: scores[k])], scores

    def _keep(self, label: int, mixture: "Mixture") -> None:
        """Store a mixture as weights, means and Cholesky factors of its covariances, whatever their shape was."""
        k, dim = mixture.means_.shape
        covariance = mixture.covariances_
        if self.config.covariance == "diag":
            covariance = np.eye(dim) * covariance[:, None, :]
        factors = np.linalg.cholesky(np.broadcast_to(covariance, (k, dim, dim)))
        self._arrays |= {
            f"{label}.weights": mixture.weights_,
            f"{label}.means": mixture.means_,
            f"{label}.factors": factors,
        }

    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw a component and a point in the subspace for each class asked for, and map it to pixels."""
        rng = np.random.default_rng(seed)
        classes = self.choose_classes(n, condition, rng)
        images = np.empty((n, *self.shape), np.uint8)
        for start in range(0, n, CHUNK):
            images[start : start + CHUNK] = self._draw(classes[start : start + CHUNK], rng)
        return self.labelled(images, classes)

    def _draw(self, classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return one image of each class given, (n, channels, height, width)."""
        z = np.empty((len(classes), len(self._arrays["axes"])))
        for label in np.unique(classes):
            rows = np.flatnonzero(classes == label)
            weights, means, factors = (self._arrays[f"{label}.{part}"] for part in ("weights", "means", "factors"))
            component = rng.choice(len(weights), size=len(rows), p=weights / weights.sum())
            noise = rng.standard_normal((len(rows), means.shape[1]))
            z[rows] = means[component] + np.einsum("nij,nj->ni", factors[component], noise)
        x = self._arrays["mean"] + z @ self._arrays["axes"]
        if self.config.observation_noise:
            noise = rng.standard_normal(x.shape)
            noise -= noise @ self._arrays["axes"].T @ self._arrays["axes"]
            x += noise * np.sqrt(self._arrays["noise_variance"])
        pixels: NDArray[np.uint8] = np.clip(np.floor((x + 1) * 128), 0, 255).astype(np.uint8)
        return pixels.reshape(-1, *self.shape)

    def log_prob(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return log p(x) in nats per image, (n,), as a density per grey level; classes are summed out."""
        return self.marginal(images, seed=seed, importance_samples=importance_samples)

    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> Array:
        """Return log p(x | y) at one draw of the dequantisation, (n, classes)."""
        x = dequantise(images, noise.uniform(*images.shape).numpy()).reshape(len(images), -1)
        return self.log_densities(x) + x.shape[1] * LOG_DET_SCALING

    def log_densities(self, x: Array) -> Array:
        """Return the log density of each class at continuous pixels in [-1, 1], (n, pixels) to (n, classes)."""
        centred = x - self._arrays["mean"]
        z = centred @ self._arrays["axes"].T
        outside = x.shape[1] - z.shape[1]
        variance = self._arrays["noise_variance"][0]
        residual = np.square(centred).sum(1) - np.square(z).sum(1)
        noise = -0.5 * (residual / variance + outside * np.log(2 * np.pi * variance))
        n_classes = len(self.class_names) if self.conditional else 1
        return np.stack([noise + self._mixture_log_density(label, z) for label in range(n_classes)], axis=1)

    def _mixture_log_density(self, label: int, z: Array) -> Array:
        from scipy.linalg import solve_triangular
        from scipy.special import logsumexp

        weights, means, factors = (self._arrays[f"{label}.{part}"] for part in ("weights", "means", "factors"))
        terms = []
        for weight, mean, factor in zip(weights, means, factors, strict=True):
            whitened = solve_triangular(factor, (z - mean).T, lower=True)
            log_det = np.log(np.diag(factor)).sum()
            terms.append(np.log(weight) - log_det - 0.5 * (np.square(whitened).sum(0) + len(mean) * np.log(2 * np.pi)))
        return np.asarray(logsumexp(terms, axis=0))

    def n_parameters(self) -> int:
        """Count the learnt numbers; a covariance matrix has as many as its shape leaves free."""
        dim = len(self._arrays["axes"])
        shared = self._arrays["mean"].size + self._arrays["axes"].size + 1
        of_covariance = dim if self.config.covariance == "diag" else dim * (dim + 1) // 2
        total = 0
        for key, weights in self._arrays.items():
            if key.endswith(".weights"):
                covariances = 1 if self.config.covariance == "tied" else len(weights)
                total += len(weights) - 1 + len(weights) * dim + covariances * of_covariance
        return int(shared + total)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return subspace and mixtures."""
        return self._arrays

    def restore(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Take subspace and mixtures back."""
        self._arrays = tensors

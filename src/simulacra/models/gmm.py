"""Gaussian mixture over pixels, of factor analysers (Ghahramani & Hinton, 1996), or over principal components."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from simulacra.data.image_set import ImageSet
from simulacra.metrics.likelihood import LOG_DET_SCALING, Likelihood, dequantise
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.models.mixture import Covariance, Criterion, Mixture, fit_mixture
from simulacra.training.config import TrainingConfig
from simulacra.training.history import Callback, History
from simulacra.training.noise import Noise

Array = NDArray[np.float64]

CHUNK = 10_000
"""Images that are worked on at once: as floating-point numbers they take many times the room."""
DEQUANTISATION_VARIANCE = (2 / 256) ** 2 / 12
"""Variance of uniform noise within one grey level, for pixels in [-1, 1): what a pixel that never changes has."""


class GMMConfig(ModelConfig):
    """Hyper-parameters of the Gaussian mixture."""

    space: Literal["pixel", "pca"] = Field("pixel", description="what the mixture is over: pixels or their components")
    pca_dim: int = Field(48, ge=1, description="principal components, where the mixture is over those")
    components: tuple[PositiveInt, ...] = Field(
        (1, 4, 24), min_length=1, description="numbers of components to choose from"
    )
    criterion: Criterion = Field("largest", description="bic or aic, or as many components as there are rows for")
    covariance: Covariance = Field("factor_analysis", description="shape of the components' covariances")
    n_factors: int = Field(4, ge=1, description="factors of each factor analyser")
    reg_covar: float = Field(
        6e-5, ge=DEQUANTISATION_VARIANCE, description="added to every variance; (1/128)² is one grey level squared"
    )
    prior_rows: float = Field(
        10.0, ge=0, description="rows of the class's own variances added to what each factor analyser's noise is from"
    )
    max_iter: int = Field(100, ge=1, description="iterations of EM at most")
    conditional: bool = Field(True, description="one mixture a class where the data carry classes")
    observation_noise: bool = Field(
        False, description="add to samples the noise of factor analysers, or outside the principal components"
    )


class GaussianMixture(DensityModel):
    """A proper density over dequantised pixels x in [-1, 1), a mixture of Gaussians a class.

    In pixel space it is the mixture itself, whose factor analysers give each pixel a noise of its own: at the border it
    is next to nothing, inside the digit it is wide. In the space of principal components it is
    x = μ + W z + ε with z from the mixture of its class and ε ~ N(0, σ² I) orthogonal to W, σ² being the mean of the
    variances that PCA leaves out, so p(x) = p_mixture(Wᵀ(x − μ)) · N(residual; 0, σ²) over all pixels. One σ² for
    black borders and strokes alike is a poor density, and a quick one to fit.

    References:
        Dempster, Laird & Rubin (1977) for EM; Ghahramani & Hinton (1996), CRG-TR-96-1, for mixtures of factor
        analysers; Tipping & Bishop (1999) for the noise outside the subspace.

    Args:
        config: a GMMConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> model = GaussianMixture(GMMConfig(components=(1, 2), n_factors=2))
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
        """Fit per class the mixture that the criterion chooses; the curves are BIC and AIC against components."""
        self.remember(train)
        self._arrays: dict[str, NDArray[Any]] = {}
        curves: dict[int, list[dict[str, float]]] = {}
        for label, vectors in enumerate(self._vectors_by_class(train, seed)):
            mixture, scores = fit_mixture(
                vectors,
                components=self.config.components,
                covariance=self.config.covariance,
                n_factors=self.config.n_factors,
                criterion=self.config.criterion,
                reg_covar=self.config.reg_covar,
                prior_rows=self.config.prior_rows,
                max_iter=self.config.max_iter,
                seed=seed,
            )
            self._arrays |= {f"{label}.{part}": array for part, array in mixture.tensors().items()}
            for components, score in scores.items():
                curves.setdefault(components, []).append(score)
        history = History()
        for components, found in sorted(curves.items()):
            history.add(components, "train", {key: float(np.mean([score[key] for score in found])) for key in found[0]})
        for callback in callbacks:
            history.replay(callback)
        return history

    def _vectors_by_class(self, train: ImageSet, seed: int) -> Iterator[Array]:
        """Yield what each class's mixture is fitted to, (n, d), one class at a time; fits the subspace if there is one.

        In pixel space the images of one class only are held as floating-point numbers at a time.
        """
        labels = train.labels if self.conditional and train.labels is not None else np.zeros(len(train), np.int64)
        rows_by_class = [np.flatnonzero(labels == label) for label in range(self._n_mixtures)]
        rng = np.random.default_rng(seed)
        if self.config.space == "pixel":
            yield from (_dequantised(train.images[rows], rng) for rows in rows_by_class)
        else:
            x = _dequantised(train.images, rng)
            self._arrays |= _principal_subspace(x, self.config.pca_dim, seed)
            z = (x - self._arrays["mean"]) @ self._arrays["axes"].T
            yield from (z[rows] for rows in rows_by_class)

    @property
    def _n_mixtures(self) -> int:
        return len(self.class_names) if self.conditional else 1

    def mixture(self, label: int) -> Mixture:
        """Return the mixture of a class by its index, over pixels or principal components; 0 without classes."""
        prefix = f"{label}."
        return Mixture.from_tensors(
            {key.removeprefix(prefix): array for key, array in self._arrays.items() if key.startswith(prefix)}
        )

    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw from the mixture of each class asked for, and return the points' images."""
        rng = np.random.default_rng(seed)
        classes = self.choose_classes(n, condition, rng)
        images = np.empty((n, *self.shape), np.uint8)
        for start in range(0, n, CHUNK):
            images[start : start + CHUNK] = self._draw(classes[start : start + CHUNK], rng)
        return self.labelled(images, classes)

    def _draw(self, classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return one image of each class given, (n, channels, height, width)."""
        analysed = self.config.space == "pixel" and self.config.covariance == "factor_analysis"
        noise = self.config.observation_noise or not analysed
        x = np.empty((len(classes), int(np.prod(self.shape))))
        for label in np.unique(classes):
            rows = np.flatnonzero(classes == label)
            drawn = self.mixture(label).sample(len(rows), rng, noise=noise)
            x[rows] = drawn if self.config.space == "pixel" else self._out_of_subspace(drawn, rng)
        pixels: NDArray[np.uint8] = np.clip(np.floor((x + 1) * 128), 0, 255).astype(np.uint8)
        return pixels.reshape(-1, *self.shape)

    def _out_of_subspace(self, z: Array, rng: np.random.Generator) -> Array:
        """Return the pixels of points of the principal subspace, (n, d) to (n, pixels)."""
        mean, axes = self._arrays["mean"], self._arrays["axes"]
        x = mean + z @ axes
        if self.config.observation_noise:
            noise = rng.standard_normal(x.shape)
            x += (noise - noise @ axes.T @ axes) * np.sqrt(self._arrays["noise_variance"])
        return np.asarray(x)

    def log_prob(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return log p(x) in nats per image, (n,), as a density per grey level; classes are summed out."""
        return self.marginal(images, seed=seed, importance_samples=importance_samples)

    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> Array:
        """Return log p(x | y) at one draw of the dequantisation, (n, classes)."""
        x = dequantise(images, noise.uniform(*images.shape).numpy()).reshape(len(images), -1)
        return self.log_densities(x) + x.shape[1] * LOG_DET_SCALING

    def log_densities(self, x: Array) -> Array:
        """Return the log density of each class at continuous pixels in [-1, 1], (n, pixels) to (n, classes)."""
        mixtures = [self.mixture(label) for label in range(self._n_mixtures)]
        if self.config.space == "pixel":
            return np.stack([mixture.log_density(x) for mixture in mixtures], axis=1)
        centred = x - self._arrays["mean"]
        z = centred @ self._arrays["axes"].T
        outside = x.shape[1] - z.shape[1]
        variance = self._arrays["noise_variance"][0]
        residual = np.square(centred).sum(1) - np.square(z).sum(1)
        noise = -0.5 * (residual / variance + outside * np.log(2 * np.pi * variance))
        return np.stack([noise + mixture.log_density(z) for mixture in mixtures], axis=1)

    def n_parameters(self) -> int:
        """Count the learnt numbers; a covariance matrix has as many as its shape leaves free."""
        subspace = sum(self._arrays[key].size for key in ("mean", "axes", "noise_variance") if key in self._arrays)
        return int(subspace) + sum(self.mixture(label).n_parameters() for label in range(self._n_mixtures))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return mixtures, and the subspace if there is one."""
        return self._arrays

    def restore(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Take mixtures and subspace back."""
        self._arrays = tensors


def _dequantised(images: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Return pixels in [-1, 1) with uniform noise within a grey level, (n, pixels)."""
    flat = images.reshape(len(images), -1)
    x = np.empty(flat.shape)
    for start in range(0, len(x), CHUNK):
        part = flat[start : start + CHUNK]
        x[start : start + CHUNK] = dequantise(part, rng.random(part.shape))
    return x


def _principal_subspace(x: Array, dim: int, seed: int) -> dict[str, Array]:
    """Return mean, axes (dim, pixels) and the mean variance outside them, by PCA."""
    from sklearn.decomposition import PCA

    # One dimension at least stays outside, so that the density covers all pixels.
    dim = min(dim, len(x) - 1, x.shape[1] - 1)
    pca = PCA(dim, svd_solver="covariance_eigh" if x.shape[1] <= 4096 else "randomized", random_state=seed).fit(x)
    # One memory order for fitted and loaded arrays: products in another order round differently.
    axes = np.ascontiguousarray(pca.components_)
    return {"mean": pca.mean_, "axes": axes, "noise_variance": np.array([pca.noise_variance_])}

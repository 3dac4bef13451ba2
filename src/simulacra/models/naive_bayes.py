"""Naive Bayes: every pixel independent of the others given the class, fitted in closed form (Lewis, 1998)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.training.config import TrainingConfig
from simulacra.training.history import Callback, History
from simulacra.training.noise import Noise

Array = NDArray[np.float64]
Classes = NDArray[np.int64]

LEVELS = 256
CHUNK = 1000
"""Samples that are drawn at once: as floating-point numbers they take many times the room."""
UNIFORM_VARIANCE = 1 / 12
"""Variance of dequantisation within a grey level, (grey levels)²: a pixel that never changes has that much."""


class NaiveBayesConfig(ModelConfig):
    """Hyper-parameters of naive Bayes."""

    features: Literal["categorical", "bernoulli", "gaussian"] = Field(
        "categorical",
        description="a pixel's distribution: of 256 grey levels, of pixels binarised at random, of dequantised ones",
    )
    alpha: float = Field(0.05, gt=0, description="images added to the count of each level (Laplace smoothing)")
    variance_smoothing: float = Field(
        1e-4, ge=0, description="share of the largest variance of a pixel that is added to every Gaussian's variance"
    )
    conditional: bool = Field(True, description="one distribution a class where the data carry classes")


class NaiveBayes(DensityModel):
    """The joint density p(x, y) = p(y) Π_d p(x_d | y) over images and classes, in closed form.

    - categorical: p(x_d = v | y) = (n_ydv + α) / (n_y + 256 α) over 256 levels, n_ydv counting images of class y. No
      noise is added, so this is a probability of the 8-bit image itself.
    - bernoulli: a pixel is 1 with the probability of its brightness x_d / 255. Counts are their expectations over that
      draw, p(1) = (Σ x_d / 255 + α) / (n_y + 2 α).
    - gaussian: density of grey levels dequantised uniformly, with their exact moments: the noise adds 1/2 to a mean
      and 1/12 to a variance.

    The draw that a likelihood needs is made when it is measured; the fit makes none, so that its seed changes nothing.

    References:
        Lewis (1998), "Naive (Bayes) at forty"; Ng & Jordan (2002), "On discriminative vs. generative classifiers".

    Args:
        config: a NaiveBayesConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> data = fabricate_images(n=60, size=8, channels=1, n_classes=2, seed=0)
        >>> model = NaiveBayes(NaiveBayesConfig())
        >>> history = model.fit(data, training=TrainingConfig())
        >>> bool((model.classify(data.images) == data.labels).mean() > 0.8)
        True
    """

    name = "naive_bayes"
    Config = NaiveBayesConfig
    config: NaiveBayesConfig

    @property
    def likelihood(self) -> Likelihood:
        """Say what the nats are of: with categorical features an exact probability, without any draw."""
        return Likelihood(
            bound=False,
            dequantisation="uniform" if self.config.features == "gaussian" else "none",
            binarisation="random" if self.config.features == "bernoulli" else "none",
            classes_summed_out=self.conditional,
        )

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
        """Count, or take moments, of each class; the curves are one point of nats per image and split.

        Raises:
            SimulacraError: where a class has no images.
        """
        self.remember(train)
        per_class = [train.images[rows].reshape(len(rows), -1) for rows in self._rows_of_classes(train)]
        count = {"categorical": _level_counts, "bernoulli": _ink, "gaussian": _moments}[self.config.features]
        parts = [count(pixels) for pixels in per_class]
        self._arrays = {key: np.stack([part[key] for part in parts]) for key in parts[0]}
        self._arrays["images"] = np.array([len(pixels) for pixels in per_class])
        history = History()
        for split, part in (("train", train), ("validation", validation)):
            if part is not None:
                history.add(1, split, {"nats": -float(self.log_prob(part.images, seed=seed).mean())})
        for callback in callbacks:
            history.replay(callback)
        return history

    def _rows_of_classes(self, train: ImageSet) -> list[Classes]:
        if not self.conditional or train.labels is None:
            return [np.arange(len(train))]
        rows = [np.flatnonzero(train.labels == label) for label in range(train.n_classes)]
        for name, found in zip(train.class_names, rows, strict=True):
            if not len(found):
                raise SimulacraError(f"class {name!r} has no training images; leave it out of the class names")
        return rows

    def log_prob(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return log p(x) in nats per image, (n,), of what `likelihood` says; classes are summed out."""
        return self.marginal(images, seed=seed, importance_samples=importance_samples)

    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> Array:
        """Return log p(x | y) at one draw of binarisation or dequantisation, (n, classes)."""
        pixels = images.reshape(len(images), -1)
        if self.config.features == "categorical":
            return self._log_of_levels(pixels)
        uniform = noise.uniform(*images.shape).double().numpy().reshape(pixels.shape)
        if self.config.features == "bernoulli":
            return self._log_of_bits(uniform < pixels / 255)
        return self.log_densities(pixels + uniform)

    def _log_of_levels(self, pixels: NDArray[np.uint8]) -> Array:
        """Return log p(x | y) of grey levels (n, pixels), (n, classes)."""
        place = np.arange(pixels.shape[1])
        return np.stack([np.log(table)[place, pixels].sum(1) for table in self._level_probabilities()], axis=1)

    def _log_of_bits(self, bits: NDArray[np.bool_]) -> Array:
        """Return log p(x | y) of binary pixels (n, pixels), (n, classes)."""
        bright = self._brightness()
        zeros, ones = np.log1p(-bright), np.log(bright)
        return np.asarray(bits @ (ones - zeros).T + zeros.sum(1))

    def log_densities(self, x: Array) -> Array:
        """Return log p(x | y) of continuous grey levels in [0, 256), (n, pixels) to (n, classes)."""
        means, variances = self._gaussians()
        found = [
            -0.5 * (np.square(x - mean) / variance + np.log(2 * np.pi * variance)).sum(1)
            for mean, variance in zip(means, variances, strict=True)
        ]
        return np.stack(found, axis=1)

    def _level_probabilities(self) -> Array:
        """Return p(x_d = v | y), (classes, pixels, 256)."""
        total = self._arrays["images"][:, None, None] + LEVELS * self.config.alpha
        return np.asarray((self._arrays["counts"] + self.config.alpha) / total)

    def _brightness(self) -> Array:
        """Return p(x_d = 1 | y), (classes, pixels)."""
        total = self._arrays["images"][:, None] + 2 * self.config.alpha
        return np.asarray((self._arrays["ink"] + self.config.alpha) / total)

    def _gaussians(self) -> tuple[Array, Array]:
        """Return means and variances in grey levels, each (classes, pixels)."""
        variances = self._arrays["variances"]
        return self._arrays["means"], variances + self.config.variance_smoothing * variances.max()

    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw each pixel from its distribution given the class."""
        rng = np.random.default_rng(seed)
        classes = self.choose_classes(n, condition, rng)
        draw = {"categorical": self._draw_levels, "bernoulli": self._draw_bits, "gaussian": self._draw_greys}
        images = np.empty((n, *self.shape), np.uint8)
        for start in range(0, n, CHUNK):
            chunk = classes[start : start + CHUNK]
            images[start : start + CHUNK] = draw[self.config.features](chunk, rng).reshape(-1, *self.shape)
        return self.labelled(images, classes)

    def _draw_levels(self, classes: Classes, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Invert each pixel's cumulative distribution: the first level where it exceeds a uniform number."""
        pixels = int(np.prod(self.shape))
        uniform, drawn = rng.random((len(classes), pixels)), np.empty((len(classes), pixels), np.uint8)
        probabilities = self._level_probabilities()
        for label in np.unique(classes):
            rows = np.flatnonzero(classes == label)
            cumulative = probabilities[label].cumsum(1)
            for pixel, edges in enumerate(cumulative / cumulative[:, -1:]):
                drawn[rows, pixel] = edges.searchsorted(uniform[rows, pixel], side="right")
        return drawn

    def _draw_bits(self, classes: Classes, rng: np.random.Generator) -> NDArray[np.uint8]:
        bright = self._brightness()[classes]
        return (rng.random(bright.shape) < bright).astype(np.uint8) * np.uint8(255)

    def _draw_greys(self, classes: Classes, rng: np.random.Generator) -> NDArray[np.uint8]:
        means, variances = self._gaussians()
        greys = means[classes] + np.sqrt(variances[classes]) * rng.standard_normal((len(classes), means.shape[1]))
        return np.clip(np.floor(greys), 0, 255).astype(np.uint8)

    def n_parameters(self) -> int:
        """Count the free numbers: 255 a pixel and class for 256 levels, one for a Bernoulli, two for a Gaussian."""
        a_pixel = {"categorical": LEVELS - 1, "bernoulli": 1, "gaussian": 2}[self.config.features]
        return len(self._arrays["images"]) * int(np.prod(self.shape)) * a_pixel

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return counts or moments."""
        return self._arrays

    def restore(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Take counts or moments back."""
        self._arrays = tensors


def _level_counts(pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return how many images have each level at each pixel, (n, pixels) to {"counts": (pixels, 256)}."""
    counts = np.stack([np.bincount(column, minlength=LEVELS) for column in pixels.T])
    return {"counts": counts.astype(np.int32)}


def _ink(pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return the expected number of images in which each pixel is 1, (n, pixels) to {"ink": (pixels,)}."""
    return {"ink": pixels.sum(0, dtype=np.int64) / 255}


def _moments(pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return mean and variance of dequantised grey levels, (n, pixels) to (pixels,) each."""
    mean = pixels.mean(0)
    # Whole numbers are summed exactly, so that nothing is lost in the difference.
    squares = np.square(pixels, dtype=np.uint16).sum(0, dtype=np.int64)
    variance = np.maximum(squares / len(pixels) - np.square(mean), 0)
    return {"means": mean + 0.5, "variances": variance + UNIFORM_VARIANCE}

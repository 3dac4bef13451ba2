"""What families with a likelihood share: joint density of image and class, its marginal, and Bayes' rule."""

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import ImageModel
from simulacra.training.noise import Noise

Array = NDArray[np.float64]


class DensityModel(ImageModel):
    """A family that gives images a probability, exactly or by a bound, the same way for all.

    A subclass says by `likelihood` what its nats are of and computes them by `log_likelihoods`. It names `marginal` for
    what it is: `log_prob` where the likelihood is exact, `elbo` where it is a bound.

    References:
        Burda et al. (2016), arXiv:1509.00519, for the importance-weighted bound.
    """

    chunk = 500
    """Images that are worked on at once."""

    @property
    @abstractmethod
    def likelihood(self) -> Likelihood:
        """Say what the nats are of."""

    @abstractmethod
    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> Array:
        """Return one draw's log p(x | y) of each class in nats per image, (n, classes), or (n, 1) without classes.

        For a bound this is log p(x, z | y) − log q(z | x, y), whose mean over draws of z is the ELBO.

        Args:
            images: (n, channels, height, width), at most `chunk`.
            noise: where dequantisation, binarisation and latent variables are drawn from, first dimension n.
        """

    def joint(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return log p(x, y), or a bound on it, in nats, (n, classes); (n, 1) without classes.

        With K importance samples it is log 1/K Σ_k of the draws' likelihoods, which bounds from below the more tightly
        the larger K is. A likelihood without random draws takes one.

        Args:
            images: (n, channels, height, width).
            seed: decides the draws.
            importance_samples: K.
        """
        draws = importance_samples if self.likelihood.random else 1
        chunks = np.split(images, range(self.chunk, len(images), self.chunk))
        found = []
        for number, chunk in enumerate(chunks):
            total = np.logaddexp.reduce(
                [self.log_likelihoods(chunk, Noise(seed, number * draws + draw)) for draw in range(draws)]
            )
            found.append(total - np.log(draws))
        with np.errstate(divide="ignore"):  # a class without training images has probability 0
            return np.concatenate(found) + np.log(self.class_frequencies if self.conditional else np.ones(1))

    def marginal(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return log p(x), or a bound on it, in nats per image, (n,), the classes summed out; arguments as `joint`."""
        joint = self.joint(images, seed=seed, importance_samples=importance_samples)
        return np.asarray(np.logaddexp.reduce(joint, axis=1))

    def classify(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> NDArray[np.int64]:
        """Return the most probable class of each image by Bayes' rule, argmax_y p(x, y), (n,).

        Raises:
            SimulacraError: where the family was fitted without classes.
        """
        if not self.conditional:
            raise SimulacraError(f"{self.name} was fitted without classes and cannot classify")
        joint = self.joint(images, seed=seed, importance_samples=importance_samples)
        return np.asarray(joint.argmax(axis=1))

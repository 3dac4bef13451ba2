"""The likelihood contract: what a family's nats are of, and their bits per dimension (Theis et al. 2016)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError


@dataclass(frozen=True)
class Likelihood:
    """Everything that must be said of a family's nats before they may stand beside another's.

    Each is of one 8-bit image, in nats, with all constants of the preprocessing: a density is one of grey levels, so a
    model of pixels scaled to [-1, 1] adds D ln (1/128) (`LOG_DET_SCALING` a dimension).

    Args:
        bound: whether the nats bound the log-likelihood from below rather than being it.
        dequantisation: how noise was added to the 256 levels for a density to be taken there; "none" for a discrete
            distribution.
        binarisation: whether pixels are made 0 or 1 first, at random by their brightness and anew for each draw.
        classes_summed_out: whether p(x) is Σ_y p(y) p(x | y).

    Example:
        >>> Likelihood(bound=True).key, Likelihood(bound=False, binarisation="random").key
        ('elbo_bits_per_dim', 'bits_per_dim_binary')
    """

    bound: bool
    dequantisation: Literal["none", "uniform", "variational"] = "none"
    binarisation: Literal["none", "random"] = "none"
    classes_summed_out: bool = False

    @property
    def key(self) -> str:
        """Name the metric that these nats become in bits per dimension; two kinds never share one."""
        return ("elbo_" if self.bound else "") + "bits_per_dim" + ("_binary" if self.binarisation != "none" else "")

    @property
    def nats_key(self) -> str:
        """Name the metric of the same nats per image."""
        return self.key.replace("bits_per_dim", "nats")

    @property
    def random(self) -> bool:
        """Whether the nats depend on random draws, so that another seed gives others."""
        return self.bound or self.dequantisation != "none" or self.binarisation != "none"

    def describe(self, importance_samples: int) -> Mapping[str, Any]:
        """Return all of it for the passport; the draws that were averaged are part of the number."""
        return {
            "quantity": "lower bound" if self.bound else "exact",
            "of": "pixels of 256 levels" if self.binarisation == "none" else "binarised pixels",
            "dequantisation": self.dequantisation,
            "binarisation": self.binarisation,
            "importance_samples": importance_samples if self.random else 1,
            "classes_summed_out": self.classes_summed_out,
        }


LOG_DET_SCALING = float(np.log(2 / 256))
"""Nats a dimension that turn a density of pixels in [-1, 1) into one of grey levels."""


def dequantise(images: NDArray[np.uint8], uniform: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Spread each of 256 grey levels evenly over its 1/256 of [-1, 1); the shape stays.

    Args:
        images: pixels.
        uniform: numbers in [0, 1), same shape.
    """
    return np.asarray((images + uniform) / 128 - 1, np.float64)


def bits_per_dim(nats: ArrayLike, n_dims: int) -> float:
    """Return the mean of −nats / (D ln 2) over the examples.

    Two kinds of number share this formula and never one metric key:

    - `log_prob` values are exact densities at uniformly dequantised pixels, x + u with x one of 0 … 255 and u uniform
      in [0, 1), in units of one grey level: a model that scales pixels by 1/127.5 adds D ln (1/127.5). Their mean then
      bounds the discrete log-probability of the 8-bit image from below (Theis et al. 2016, section 3.1), so that
      densities and discrete models compare. Key `bits_per_dim`.
    - `elbo` values bound the log-likelihood from below, so these bits are an upper bound. Key `elbo_bits_per_dim`.

    Discrete data cost at least 0 bits: a result clearly below says that the density is in other units or was taken
    without dequantising.

    Args:
        nats: log-likelihood of each example in nats, (n,).
        n_dims: dimensions D of an example: channels × height × width.

    Raises:
        SimulacraError: where there are no values, some are not finite, or `n_dims` is below 1.
    """
    return float(_bits(nats, n_dims, minimum=1).mean())


def bits_per_dim_with_error(nats: ArrayLike, n_dims: int) -> tuple[float, float]:
    """Return bits per dimension as `bits_per_dim` does, and the standard error of that mean over examples.

    Raises:
        SimulacraError: as `bits_per_dim`, and where there are fewer than two values.
    """
    bits = _bits(nats, n_dims, minimum=2)
    return float(bits.mean()), float(bits.std(ddof=1) / np.sqrt(len(bits)))


def _bits(nats: ArrayLike, n_dims: int, *, minimum: int) -> NDArray[np.float64]:
    """Return each example's bits per dimension, (n,)."""
    values = np.asarray(nats, dtype=np.float64)
    if values.ndim != 1 or len(values) < minimum:
        raise SimulacraError(f"log-likelihoods must have shape (n,) with n at least {minimum}, got {values.shape}")
    if n_dims < 1:
        raise SimulacraError(f"n_dims is {n_dims}; give channels × height × width")
    bad = len(values) - np.count_nonzero(np.isfinite(values))
    if bad:
        raise SimulacraError(
            f"log-likelihoods: {bad} of {len(values)} rows are not finite; "
            "-inf marks an image that the model holds impossible, NaN a model that diverged"
        )
    bits: NDArray[np.float64] = -values / (n_dims * np.log(2))
    return bits

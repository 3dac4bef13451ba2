"""Likelihoods of images in bits per dimension (Theis et al. 2016, arXiv:1511.01844)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError


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

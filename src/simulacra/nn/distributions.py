"""Densities that networks give the parameters of: of pixels, and of latent variables."""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_BIN = 1 / 255
"""Half of the distance between two grey levels in [-1, 1]."""


def discretised_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor, *, half_bin: float = HALF_BIN) -> Tensor:
    """Return log P(x) of quantised pixels under a logistic whose tails belong to the first and last level.

    P(x) = σ((x + h − μ)/s) − σ((x − h − μ)/s), with σ(−∞) = 0 below black and σ(∞) = 1 above white. In place of the
    difference of two nearly equal numbers this computes log σ(a) + log σ(−b) + log(1 − e^(b − a)), which is exact for
    every scale. Source: Kingma et al. (2016), arXiv:1606.04934, section 5; Salimans et al. (2017), arXiv:1701.05517.

    Args:
        x: pixels in [-1, 1] on the grid of the levels.
        mean: location μ, same shape or broadcastable.
        log_scale: log s, same shape or broadcastable.
        half_bin: half of the distance between two levels; without it there are 256.

    Returns:
        Nats per pixel, in the broadcast shape.
    """
    inverse_scale = torch.exp(-log_scale)
    above = (x + half_bin - mean) * inverse_scale
    below = (x - half_bin - mean) * inverse_scale
    log_upper = torch.where(x > 1 - half_bin, torch.zeros_like(above), F.logsigmoid(above))
    log_lower = torch.where(x < half_bin - 1, torch.zeros_like(below), F.logsigmoid(-below))
    inside = (x > half_bin - 1) & (x < 1 - half_bin)
    width = torch.log(-torch.expm1(-2 * half_bin * inverse_scale)).expand_as(above)
    return log_upper + log_lower + torch.where(inside, width, torch.zeros_like(width))


def logistic_mixture_log_prob(
    x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor, *, half_bin: float = HALF_BIN
) -> Tensor:
    """Return log P(x) of whole pixels under a mixture of discretised logistics (Salimans et al. 2017, section 2.1).

    Each component gives all channels of a pixel a logistic of their own.

    Args:
        x: pixels in [-1, 1] on the grid of the levels, (n, channels, h, w).
        logits: of the components, (n, components, h, w).
        mean: locations, (n, components, channels, h, w).
        log_scale: same shape.
        half_bin: half of the distance between two levels.

    Returns:
        Nats per pixel, (n, h, w).
    """
    channels = discretised_logistic_log_prob(x[:, None], mean, log_scale, half_bin=half_bin)
    return torch.logsumexp(F.log_softmax(logits, dim=1) + channels.sum(dim=2), dim=1)


LOG_SCALE_FLOOR = -7.0
"""Smallest log scale of a pixel: below a tenth of a grey level a logistic is a point mass, and gradients explode."""


class Observation(Protocol):
    """A density of independent pixels in [-1, 1], whose parameters a network lays along the channels."""

    parameters: int
    """Numbers a pixel and channel."""
    binary: bool
    """Whether it is of pixels that are -1 or 1."""

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return nats per pixel, (n, channels, h, w)."""

    def mean(self, parameters: Tensor) -> Tensor:
        """Return mean pixels, (n, channels, h, w)."""

    def drawn(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Return the pixels at quantiles in [0, 1), (n, channels, h, w)."""


class DiscretisedLogistic:
    """Pixels of 256 levels with a mean and a log scale each.

    Example:
        >>> DiscretisedLogistic().mean(torch.zeros(3, 2, 8, 8)).shape
        torch.Size([3, 1, 8, 8])
    """

    parameters, binary = 2, False

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return nats per pixel, (n, channels, h, w)."""
        mean, log_scale = parameters.chunk(2, dim=1)
        return discretised_logistic_log_prob(x, mean, log_scale.clamp(min=LOG_SCALE_FLOOR))

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the locations."""
        return parameters.chunk(2, dim=1)[0]

    def drawn(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Return the pixels at quantiles in [0, 1); neither rounded nor clipped."""
        mean, log_scale = parameters.chunk(2, dim=1)
        return mean + log_scale.clamp(min=LOG_SCALE_FLOOR).exp() * torch.logit(uniform.clamp(1e-6, 1 - 1e-6))


class Bernoulli:
    """Pixels that are -1 or 1, with a logit each.

    Example:
        >>> float(Bernoulli().log_prob(torch.ones(1), torch.zeros(1)).exp())
        0.5
    """

    parameters, binary = 1, True

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return nats per pixel, (n, channels, h, w)."""
        return -F.binary_cross_entropy_with_logits(parameters, (x + 1) / 2, reduction="none")

    def mean(self, parameters: Tensor) -> Tensor:
        """Return mean pixels."""
        return torch.sigmoid(parameters) * 2 - 1

    def drawn(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Return -1 or 1 by quantiles in [0, 1)."""
        return (uniform < torch.sigmoid(parameters)) * 2.0 - 1


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, e^log_variance) ‖ N(prior_mean, e^prior_log_variance)) per coordinate, in nats.

    Source: Kingma & Welling (2014), appendix B, with a prior of any mean and variance.
    """
    ratio = log_variance - prior_log_variance
    return 0.5 * (ratio.exp() - 1 - ratio + (mean - prior_mean).square() * torch.exp(-prior_log_variance))


def gaussian_log_prob(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log N(z; mean, e^log_variance) per coordinate, in nats."""
    return -0.5 * ((z - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))

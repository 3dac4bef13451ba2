"""Observation densities of images."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_BIN = 1 / 255
"""Half of the distance between two grey levels in [-1, 1]."""


def discretised_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return log P(x) of 256-level pixels under a logistic whose tails belong to the first and last level.

    P(x) = σ((x + h − μ)/s) − σ((x − h − μ)/s), with σ(−∞) = 0 below black and σ(∞) = 1 above white. In place of the
    difference of two nearly equal numbers this computes log σ(a) + log σ(−b) + log(1 − e^(b − a)), which is exact for
    every scale. Source: Kingma et al. (2016), arXiv:1606.04934, section 5; Salimans et al. (2017), arXiv:1701.05517.

    Args:
        x: pixels in [-1, 1] on the grid of 256 levels.
        mean: location μ, same shape or broadcastable.
        log_scale: log s, same shape or broadcastable.

    Returns:
        Nats per pixel, in the broadcast shape.
    """
    inverse_scale = torch.exp(-log_scale)
    above = (x + HALF_BIN - mean) * inverse_scale
    below = (x - HALF_BIN - mean) * inverse_scale
    log_upper = torch.where(x > 1 - HALF_BIN, torch.zeros_like(above), F.logsigmoid(above))
    log_lower = torch.where(x < HALF_BIN - 1, torch.zeros_like(below), F.logsigmoid(-below))
    inside = (x > HALF_BIN - 1) & (x < 1 - HALF_BIN)
    width = torch.log(-torch.expm1(-2 * HALF_BIN * inverse_scale)).expand_as(above)
    return log_upper + log_lower + torch.where(inside, width, torch.zeros_like(width))


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, e^log_variance) ‖ N(prior_mean, e^prior_log_variance)) per coordinate, in nats.

    Source: Kingma & Welling (2014), appendix B, with a prior of any mean and variance.
    """
    ratio = log_variance - prior_log_variance
    return 0.5 * (ratio.exp() - 1 - ratio + (mean - prior_mean).square() * torch.exp(-prior_log_variance))


def gaussian_log_prob(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log N(z; mean, e^log_variance) per coordinate, in nats."""
    return -0.5 * ((z - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))

"""The terms of the variational bound, and few times to estimate their sum from: Ho et al. (2020), equation 5.

−log p(x₀) ≤ L_T + Σ_{t=2}^{T} L_{t−1} + L_0. All terms are in nats per image of 8-bit pixels scaled to [-1, 1].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simulacra.diffusion.formulations import DDPM, Denoise
from simulacra.diffusion.schedules import Level, noised

HALF_BIN = 1 / 255
"""Half of the distance between two grey levels in [-1, 1]."""


def prior_nats(x0: Tensor, last: Level) -> Tensor:
    """Return L_T = KL(q(x_T | x₀) ‖ N(0, I)), (n,)."""
    variance = last.sigma.square()
    return 0.5 * (last.alpha.square() * x0.square() + variance - 1 - variance.log()).flatten(1).sum(1)


def transition_nats(x0: Tensor, estimate: Tensor, now: Level, then: Level) -> Tensor:
    """Return L_{t−1} = KL(q(x_then | x_now, x₀) ‖ p(x_then | x_now)), (n,).

    With the posterior's own variance, σ_t² = β̃_t, it is ½ (SNR_then − SNR_now) ‖x₀ − x̂₀‖²: Kingma et al. (2021),
    arXiv:2107.00630, equation 14.

    Args:
        x0: images, (n, …).
        estimate: x̂₀ at x_now.
        now: the noisier level, one an image or one for all.
        then: the level before it.
    """
    return 0.5 * (then.snr - now.snr).to(x0) * (x0 - estimate).square().flatten(1).sum(1)


def decoder_log_prob(x0: Tensor, mean: Tensor, sigma: Tensor | float) -> Tensor:
    """Return log p(x₀ | x₁), (n,): 256 levels under a Gaussian, whose tails belong to the first and last level.

    Source: Ho et al. (2020), equation 13; L_0 is its negative.

    Args:
        x0: images on the grid of the levels, (n, …).
        mean: of the Gaussian, same shape.
        sigma: its standard deviation.
    """
    above = torch.where(x0 > 1 - HALF_BIN, torch.inf, (x0 + HALF_BIN - mean) / sigma)
    below = torch.where(x0 < HALF_BIN - 1, -torch.inf, (x0 - HALF_BIN - mean) / sigma)
    # Of the two tails the smaller one is exact: Φ(b) − Φ(a) = Φ(−a) − Φ(−b).
    flip = above + below > 0
    upper, lower = torch.where(flip, -below, above), torch.where(flip, -above, below)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    nats: Tensor = log_upper + torch.log(-torch.expm1(log_lower - log_upper))
    return nats.flatten(1).sum(1)


def proposal(process: DDPM, signal: float) -> Tensor:
    """Return how often to look at each L_{t−1}, as probabilities of t = 2 … T, (T − 1,).

    For pixels of a Gaussian with standard deviation `signal` the term is ½ (SNR_{t−1} − SNR_t) / (1/signal² + SNR_t).
    Looking at t as often as that, a sum that is estimated from few times would vary least; for other data it is still
    unbiased.

    Args:
        process: gives the levels.
        signal: standard deviation of what the noise hides, in units of pixels in [-1, 1].
    """
    snr = process.at(torch.arange(1, process.timesteps + 1)).snr
    terms = (snr[:-1] - snr[1:]) / (1 / signal**2 + snr[1:])
    return terms / terms.sum()


def stratified(probabilities: Tensor, uniform: Tensor, draws: int) -> Tensor:
    """Return indices into the probabilities, (n, draws), each drawn by them, from as many strata as there are draws.

    Args:
        probabilities: (m,), of sum 1.
        uniform: numbers in [0, 1), (n,), one for all draws of an image.
        draws: how many for each image.
    """
    quantiles = (uniform.double()[:, None] + torch.arange(draws)) / draws
    return torch.searchsorted(probabilities.cumsum(0), quantiles, right=True).clamp(max=len(probabilities) - 1)


class Glimpse(NamedTuple):
    """One noisy state of each image, at a time of its own.

    Args:
        x: the states, (n, …).
        now: their levels.
        then: the levels one step before.
        weight: one over the number of times that this L_{t−1} is expected to be looked at, (n,).
    """

    x: Tensor
    now: Level
    then: Level
    weight: Tensor


def glimpses(
    x0: Tensor, process: DDPM, probabilities: Tensor, *, draws: int, uniform: Tensor, normal: Callable[..., Tensor]
) -> list[Glimpse]:
    """Return so many glimpses of each image, from which Σ L_{t−1} can be estimated.

    Args:
        x0: images, (n, …).
        process: gives the levels.
        probabilities: of t = 2 … T.
        draws: how many.
        uniform: numbers in [0, 1), (n,).
        normal: standard normal numbers of the shape it is called with.
    """
    found = []
    for index in stratified(probabilities, uniform.cpu(), draws).T:
        now, then = process.at(index + 2), process.at(index + 1)
        weight = 1 / (draws * probabilities[index])
        found.append(Glimpse(noised(x0, now, normal(*x0.shape).to(x0)), now, then, weight))
    return found


def transitions(denoise: Denoise, x0: Tensor, looks: list[Glimpse]) -> Tensor:
    """Return an unbiased estimate of Σ_{t=2}^{T} L_{t−1} from some glimpses, in nats, (n,)."""
    terms = [
        look.weight * transition_nats(x0, denoise(look.x, look.now), look.now, look.then).double().cpu()
        for look in looks
    ]
    return torch.stack(terms).sum(0)


def terms(
    denoisers: Sequence[Denoise],
    x0: Tensor,
    process: DDPM,
    *,
    sigma: Tensor | float,
    signal: float,
    draws: int,
    normal: Callable[..., Tensor],
    uniform: Callable[..., Tensor],
) -> tuple[Tensor, Tensor]:
    """Return log p(x₀ | x₁) − L_T, (n, classes), and two independent estimates of what is between, (2, n, classes).

    All classes are looked at in the same noise, so that they differ by what they know and not by luck.

    Args:
        denoisers: one a class.
        x0: images on the grid of the levels, (n, …).
        process: gives the levels.
        sigma: deviation of p(x₀ | x₁).
        signal: see `proposal`.
        draws: glimpses for each of the two estimates.
        normal: standard normal numbers of the shape it is called with.
        uniform: numbers in [0, 1).
    """
    first, last = process.at(torch.tensor(1)), process.at(torch.tensor(process.timesteps))
    x1, prior = noised(x0, first, normal(*x0.shape).to(x0)), prior_nats(x0, last)
    outer = [decoder_log_prob(x0, denoise(x1, first), sigma) - prior for denoise in denoisers]
    probabilities = proposal(process, signal)
    inner = []
    for _ in range(2):
        looks = glimpses(x0, process, probabilities, draws=draws, uniform=uniform(len(x0)), normal=normal)
        inner.append(torch.stack([transitions(denoise, x0, looks) for denoise in denoisers], dim=1))
    return torch.stack(outer, dim=1).double().cpu(), torch.stack(inner)


def summed_out(outer: Tensor, inner: Tensor, log_prior: Tensor) -> Tensor:
    """Return a bound on log p(x, y) whose sum over classes bounds log p(x), both on average over the draws.

    log Σ_y p(y) exp(ELBO_y) of noisy ELBOs is too large on average: the noise is what it picks. So each estimate is
    weighed by a q(y | x) that is made from the others only, and Σ_y q (log p(y) + ELBO_y − log q), which is linear in
    what is noisy, bounds log p(x) for any q. What is returned is that bound plus the log posterior of the classes.

    Args:
        outer: log p(x₀ | x₁, y) − L_T, (n, classes).
        inner: independent estimates of Σ L_{t−1}, (estimates, n, classes), at least two where there are classes.
        log_prior: log p(y), (classes,).
    """
    others = (inner.sum(0) - inner) / max(1, len(inner) - 1)
    log_q = torch.log_softmax(log_prior - others, dim=2)
    terms = log_q.exp() * (log_prior + outer - inner - log_q)
    bound = torch.where(log_q > -torch.inf, terms, 0).sum(2).mean(0)
    return bound[:, None] + torch.log_softmax(log_prior + outer - inner.mean(0), dim=1)

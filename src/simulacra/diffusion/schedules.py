"""Noise levels, and the Gaussian process between them: Ho et al. (2020), arXiv:2006.11239.

Every process here is x_t = α_t x₀ + σ_t ε with ε standard normal. What differs is how α and σ go with time.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Level(NamedTuple):
    """How noisy a state is: x = α x₀ + σ ε. One level for a batch, shape (), or one an image, shape (n,).

    Args:
        time: in the units of the formulation that made it; it grows with the noise.
        alpha: factor of the image.
        sigma: standard deviation of the noise.

    Example:
        >>> Level(time=torch.tensor(1.0), alpha=torch.tensor(0.5), sigma=torch.tensor(0.25)).snr
        tensor(4.)
    """

    time: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio α² / σ²; infinite without noise."""
        return (self.alpha / self.sigma).square()

    @property
    def log_snr_half(self) -> Tensor:
        """The λ = log α / σ of Lu et al. (2022), arXiv:2206.00927."""
        return self.alpha.log() - self.sigma.log()

    def along(self, x: Tensor) -> Self:
        """Return the level shaped to multiply x, (n, …): one level an image gets dimensions of size 1 behind.

        A single number keeps its double precision, since numbers without dimensions do not change the type of x.
        """
        if not self.time.ndim:
            return self
        shape = (-1,) + (1,) * (x.ndim - 1)
        return type(self)(*(part.to(x.device, x.dtype).reshape(shape) for part in self))


def alphas_bar_linear(timesteps: int) -> Tensor:
    """Return ᾱ_0 = 1 to ᾱ_T for variances β from 1e-4 to 0.02 (Ho et al. 2020, section 4), as if there were 1,000.

    For other T they are scaled by 1000 / T (Nichol & Dhariwal 2021), so that ᾱ_T stays near 0.
    """
    scale = 1000 / timesteps
    return _cumulated(torch.linspace(1e-4 * scale, 0.02 * scale, timesteps, dtype=torch.float64))


def alphas_bar_cosine(timesteps: int) -> Tensor:
    """Return ᾱ_0 = 1 to ᾱ_T of the cosine schedule: Nichol & Dhariwal (2021), arXiv:2102.09672, equation 17."""
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    return _cumulated(1 - f[1:] / f[:-1])


def _cumulated(betas: Tensor) -> Tensor:
    """Return ᾱ_t = Π (1 − β); a β above 0.999 would leave nothing of the image to divide by."""
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.clamp(max=0.999)).cumprod(0)])


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"linear": alphas_bar_linear, "cosine": alphas_bar_cosine}


def noised(x0: Tensor, level: Level, noise: Tensor) -> Tensor:
    """Return a draw of q(x_t | x₀) by standard normal numbers (equation 4)."""
    level = level.along(x0)
    return level.alpha * x0 + level.sigma * noise


def noised_further(x: Tensor, now: Level, later: Level, noise: Tensor) -> Tensor:
    """Return a draw of q(x_later | x_now): some steps of equation 2 in one."""
    ratio, variance = step_back(now, later)
    return ratio * x + variance.sqrt() * noise


def step_back(less: Level, more: Level) -> tuple[Tensor, Tensor]:
    """Return factor and variance of q(x_more | x_less) = N(factor · x_less, variance).

    Source: Kingma et al. (2021), arXiv:2107.00630, appendix A.1.
    """
    ratio = more.alpha / less.alpha
    return ratio, (more.sigma.square() - (ratio * less.sigma).square()).clamp(min=0)


def posterior(x: Tensor, x0: Tensor, now: Level, then: Level) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(x_then | x_now, x₀) for a less noisy `then` (Ho et al. 2020, equations 6 and 7).

    Where the image has vanished from x_now, α = 0, the state tells nothing and the draw is q(x_then | x₀).
    """
    now, then = now.along(x), then.along(x)
    ratio, variance = step_back(then, now)
    kept = (then.sigma / now.sigma).square()
    return ratio * kept * x + then.alpha * variance / now.sigma.square() * x0, kept * variance


def epsilon_of(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """Return the noise that leads from x₀ to x."""
    level = level.along(x)
    return (x - level.alpha * x0) / level.sigma


def score_of(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """Return ∇ log p(x) where x₀ is the posterior mean of the image: Tweedie's formula, (α x₀ − x) / σ²."""
    level = level.along(x)
    return (level.alpha * x0 - x) / level.sigma.square()

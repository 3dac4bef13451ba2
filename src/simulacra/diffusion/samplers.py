"""From noise to images: free functions of a denoiser and a list of levels, whatever formulation they come from.

Each is an iterator over the states that it passes through, with the denoiser's estimate of the image at each. So a film
of it costs nothing, and a caller may start at any level with any state. All randomness is handed in.

The deterministic ones solve the probability-flow ODE (Song et al. 2021, arXiv:2011.13456, equation 13). In any process
x = α x₀ + σ ε it reads dx = x̂₀ dα + ε̂ dσ, with ε̂ = (x − α x̂₀) / σ. No derivative in time is needed, only the levels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from simulacra.diffusion.formulations import Denoise
from simulacra.diffusion.schedules import Level, epsilon_of, posterior

Normal = Callable[..., Tensor]
"""Standard normal numbers of the shape that it is called with, such as `Noise.normal`."""


class State(NamedTuple):
    """A state after a step, and the image that the step was led by.

    Args:
        x: the state, (n, …).
        level: its level.
        x0: the denoiser's estimate, (n, …).
    """

    x: Tensor
    level: Level
    x0: Tensor


Sampler = Callable[[Denoise, Tensor, Sequence[Level]], Iterator[State]]


def final(x: Tensor, states: Iterable[State]) -> Tensor:
    """Return the last state; the first one where no step was taken."""
    for state in states:
        x = state.x
    return x


def ancestral(denoise: Denoise, x: Tensor, levels: Sequence[Level], *, normal: Normal) -> Iterator[State]:
    """Draw each state from q(x_then | x_now, x̂₀): Ho et al. (2020), arXiv:2006.11239, algorithm 2.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
        normal: where the steps' noise is drawn from.
    """
    for now, then in pairwise(levels):
        x0 = denoise(x, now)
        x = drawn_back(x, x0, now, then, normal(*x.shape))
        yield State(x, then, x0)


def drawn_back(x: Tensor, x0: Tensor, now: Level, then: Level, noise: Tensor) -> Tensor:
    """Return a draw of q(x_then | x_now, x₀) by standard normal numbers; without noise at `then` it is x₀."""
    mean, variance = posterior(x, x0, now, then)
    return mean + variance.sqrt() * noise.to(x)


def ddim(denoise: Denoise, x: Tensor, levels: Sequence[Level], *, normal: Normal, eta: float = 0.0) -> Iterator[State]:
    """Step by equation 12 of Song et al. (2021), arXiv:2010.02502: η = 0 is deterministic, η = 1 is ancestral.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
        normal: where the steps' noise is drawn from; not called for η = 0.
        eta: share of the ancestral step's deviation (equation 16).
    """
    for now, then in pairwise(levels):
        x0 = denoise(x, now)
        fresh = eta * posterior(x, x0, now, then)[1].sqrt()
        kept = (then.sigma.square() - fresh.square()).clamp(min=0).sqrt()
        x = then.alpha * x0 + kept * epsilon_of(x, x0, now)
        if eta:
            x = x + fresh * normal(*x.shape).to(x)
        yield State(x, then, x0)


def _moved(x: Tensor, slope: tuple[Tensor, Tensor], now: Level, then: Level) -> Tensor:
    """Return x + x̂₀ Δα + ε̂ Δσ."""
    x0, epsilon = slope
    return x + (then.alpha - now.alpha) * x0 + (then.sigma - now.sigma) * epsilon


def _slope(denoise: Denoise, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    x0 = denoise(x, level)
    return x0, epsilon_of(x, x0, level)


def euler(denoise: Denoise, x: Tensor, levels: Sequence[Level]) -> Iterator[State]:
    """Follow the ODE by straight steps; first order. On the straight path of flow matching dx = v dt.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
    """
    for now, then in pairwise(levels):
        slope = _slope(denoise, x, now)
        x = _moved(x, slope, now, then)
        yield State(x, then, slope[0])


def heun(denoise: Denoise, x: Tensor, levels: Sequence[Level]) -> Iterator[State]:
    """Follow the ODE by the mean of the slopes at both ends; second order, two evaluations a step.

    Source: Karras et al. (2022), arXiv:2206.00364, algorithm 1, which this is where α = 1. The last step, to no noise,
    is Euler's.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
    """
    for now, then in pairwise(levels):
        slope = _slope(denoise, x, now)
        ahead = _moved(x, slope, now, then)
        if then.sigma:
            further = _slope(denoise, ahead, then)
            ahead = _moved(x, ((slope[0] + further[0]) / 2, (slope[1] + further[1]) / 2), now, then)
        x = ahead
        yield State(x, then, slope[0])


def midpoint(denoise: Denoise, x: Tensor, levels: Sequence[Level]) -> Iterator[State]:
    """Follow the ODE by the slope in the middle of each step; second order, two evaluations a step.

    Every second level is a middle. Where their number is even, the last step is Euler's.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
    """
    whole = levels if len(levels) % 2 else levels[:-1]
    for now, middle, then in zip(whole[:-2:2], whole[1:-1:2], whole[2::2], strict=True):
        halfway = _moved(x, _slope(denoise, x, now), now, middle)
        slope = _slope(denoise, halfway, middle)
        x = _moved(x, slope, now, then)
        yield State(x, then, slope[0])
    if len(whole) < len(levels):
        yield from euler(denoise, x, levels[-2:])


def dpm_solver(denoise: Denoise, x: Tensor, levels: Sequence[Level]) -> Iterator[State]:
    """Follow the ODE by DPM-Solver++(2M), second order at one evaluation a step.

    Source: Lu et al. (2022), arXiv:2211.01095, algorithm 2. The first step has no predecessor, and the one to no noise
    is infinitely long in λ = log α / σ: both are first order.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
    """
    before = None
    for now, then in pairwise(levels):
        x0 = denoise(x, now)
        ahead = _midway(x0, before, now, then)
        # −α (e^{−h} − 1), written so that it is finite where α or σ is 0.
        x = then.sigma / now.sigma * x + (then.alpha - then.sigma * now.alpha / now.sigma) * ahead
        before = now, x0
        yield State(x, then, x0)


def sde_dpm_solver(denoise: Denoise, x: Tensor, levels: Sequence[Level], *, normal: Normal) -> Iterator[State]:
    """Draw each state as `ancestral` does, from an estimate of x₀ in the middle of the step: SDE-DPM-Solver++(2M).

    Fresh noise lets later steps mend what earlier ones got wrong, and few steps do.

    Source: Lu et al. (2022), arXiv:2211.01095.

    Args:
        denoise: gives x̂₀.
        x: the state at the first level, (n, …).
        levels: from noisy to clean.
        normal: where the steps' noise is drawn from.
    """
    before = None
    for now, then in pairwise(levels):
        x0 = denoise(x, now)
        x = drawn_back(x, _midway(x0, before, now, then), now, then, normal(*x.shape))
        before = now, x0
        yield State(x, then, x0)


def _midway(x0: Tensor, before: tuple[Level, Tensor] | None, now: Level, then: Level) -> Tensor:
    """Return the estimate in the middle of a step in λ, on the line through this estimate and the one before it."""
    if before is None or not then.sigma:
        return x0
    h, h_before = then.log_snr_half - now.log_snr_half, now.log_snr_half - before[0].log_snr_half
    return x0 + h / (2 * h_before) * (x0 - before[1])


DETERMINISTIC: dict[str, Sampler] = {"euler": euler, "heun": heun, "midpoint": midpoint, "dpm_solver": dpm_solver}
"""Those that need no noise but the first state's. The others are `ancestral`, `ddim` and `sde_dpm_solver`."""

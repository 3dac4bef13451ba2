import math
from functools import partial

import pytest
import torch
from torch import Tensor

from simulacra.diffusion import samplers
from simulacra.diffusion.editing import from_strength, image_to_image, inpaint, interpolate, inverted, slerp
from simulacra.diffusion.formulations import DDPM, EDM, FlowMatching, Formulation
from simulacra.diffusion.samplers import final
from simulacra.diffusion.schedules import Level

FORMULATIONS: dict[str, Formulation] = {
    "ddpm": DDPM(timesteps=1000),
    "flow_matching": FlowMatching(),
    "edm": EDM(),
}
MEAN = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.4, 0.1], [0.2, 0.1, 0.3]], dtype=torch.float64)
"""The data are a Gaussian with these moments, so that the best denoiser, and what a fill should be, are known."""
KNOWN = torch.tensor([-0.2], dtype=torch.float64)
"""The last coordinate is known, and the first two are the hole."""
HOLE = torch.tensor([True, True, False])


def normal_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def denoise(x: Tensor, level: Level) -> Tensor:
    """E[x₀ | x] of the Gaussian."""
    total = level.alpha**2 * COVARIANCE + level.sigma**2 * torch.eye(3, dtype=torch.float64)
    gain = level.alpha * torch.linalg.solve(total, COVARIANCE)
    return MEAN + (x - level.alpha * MEAN) @ gain


def conditional() -> tuple[Tensor, Tensor]:
    """Mean and covariance of the hole given what is known, in closed form."""
    across, within = COVARIANCE[:2, 2:], COVARIANCE[2:, 2:]
    gain = across @ torch.linalg.inv(within)
    return MEAN[:2] + gain @ (KNOWN - MEAN[2:]), COVARIANCE[:2, :2] - gain @ across.T


def sampler_of(name: str, seed: int = 2):
    return {
        **samplers.DETERMINISTIC,
        "ancestral": partial(samplers.ancestral, normal=normal_from(seed)),
        "ddim": partial(samplers.ddim, normal=normal_from(seed), eta=0.5),
    }[name]


SAMPLERS = ("ancestral", "ddim", *samplers.DETERMINISTIC)


def filled(name: str, formulation: str, *, steps: int, resamplings: int, jump: int, n: int = 4000) -> Tensor:
    x0 = torch.zeros(n, 3, dtype=torch.float64)
    x0[:, 2] = KNOWN
    states = inpaint(
        denoise,
        x0,
        HOLE.expand(n, 3),
        FORMULATIONS[formulation].levels(steps),
        sampler=sampler_of(name),
        normal=normal_from(0),
        resamplings=resamplings,
        jump=jump,
    )
    return final(x0, states)


def error(x: Tensor) -> float:
    """Largest deviation of the fill's mean and covariance from the closed form."""
    mean, covariance = conditional()
    found = x[:, :2]
    return max(float((found.mean(0) - mean).abs().max()), float((torch.cov(found.T) - covariance).abs().max()))

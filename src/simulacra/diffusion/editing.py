"""Editing by a denoiser that was never trained for it: fill a hole, redraw an image, pass from one to another.

All are free functions of a denoiser, levels and a sampler, whatever formulation they come from.

References:
    Lugmayr et al. (2022), arXiv:2201.09865 (RePaint); Meng et al. (2022), arXiv:2108.01073 (SDEdit); Song et al.
    (2021), arXiv:2010.02502, for the way from an image to its noise.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from simulacra.diffusion.formulations import Denoise
from simulacra.diffusion.samplers import Normal, Sampler, State, final, heun
from simulacra.diffusion.schedules import Level, noised, noised_further

PARALLEL = 1e-6
"""Sine of the angle below which two directions count as one, and an arc between them as a line."""


def holding(denoise: Denoise, x0: Tensor, hole: Tensor, *, normal: Normal) -> Denoise:
    """Return a denoiser that knows the image outside the hole, and sees it there with as much noise as the state has.

    Equation 8 of RePaint, within the denoiser: a state's known pixels are drawn anew from q(x_t | x₀) at each look, and
    the estimate has them as they are. So it holds for every sampler, also for those that look twice a step.

    Args:
        denoise: gives x̂₀.
        x0: the images, (n, …); inside the hole they count for nothing.
        hole: true where an image is to be filled, shape of x0.
        normal: where the noise of known pixels is drawn from.
    """

    def estimate(x: Tensor, level: Level) -> Tensor:
        seen = noised(x0, level, normal(*x0.shape).to(x0))
        return torch.where(hole, denoise(torch.where(hole, x, seen), level), x0)

    return estimate


def inpaint(
    denoise: Denoise,
    x0: Tensor,
    hole: Tensor,
    levels: Sequence[Level],
    *,
    sampler: Sampler,
    normal: Normal,
    resamplings: int,
    jump: int,
) -> Iterator[State]:
    """Fill holes in images: RePaint's algorithm 1, with a sampler of one's choice between the jumps back.

    After `jump` steps down, noise brings the state back up, and the same steps are taken again, `resamplings` times in
    all. The fill saw the known pixels only after it had been begun without them; each turn lets the two agree better.

    Args:
        denoise: gives x̂₀.
        x0: the images, (n, …); inside the hole they count for nothing.
        hole: true where an image is to be filled, shape of x0.
        levels: from noisy to clean.
        sampler: a function of denoiser, state and levels.
        normal: where all noise is drawn from.
        resamplings: how often each stretch of the way is gone; 1 is without jumps.
        jump: steps in a stretch.
    """
    held = holding(denoise, x0, hole, normal=normal)
    x = levels[0].sigma * normal(*x0.shape).to(x0)
    for start in range(0, len(levels) - 1, jump):
        stretch = levels[start : start + jump + 1]
        for turn in range(resamplings):
            if turn:
                x = noised_further(x, stretch[-1], stretch[0], normal(*x0.shape).to(x0))
            for state in sampler(held, x, stretch):
                x = state.x
                yield state


def from_strength(levels: Sequence[Level], strength: float) -> Sequence[Level]:
    """Return the last levels: of the steps, the share that strength names, rounded up.

    Example:
        >>> from simulacra.diffusion.formulations import FlowMatching
        >>> [float(level.sigma) for level in from_strength(FlowMatching().levels(4), 0.5)]
        [0.5, 0.25, 0.0]
    """
    # Of 20 steps, 0.35 is 7 and not, for want of a digit, 8.
    return levels[len(levels) - 1 - math.ceil(round(strength * (len(levels) - 1), 9)) :]


def image_to_image(
    denoise: Denoise, x0: Tensor, levels: Sequence[Level], *, strength: float, sampler: Sampler, normal: Normal
) -> Iterator[State]:
    """Add noise to images and undo it: SDEdit's algorithm 1. What the noise hides is drawn anew, the rest is kept.

    Args:
        denoise: gives x̂₀.
        x0: the images, (n, …).
        levels: of the whole way, from noisy to clean.
        strength: share of the steps that are gone, from 0, where no state is passed, to 1, which is from pure noise.
        sampler: a function of denoiser, state and levels.
        normal: where all noise is drawn from.
    """
    left = from_strength(levels, strength)
    if len(left) == 1:
        return
    noise = normal(*x0.shape).to(x0)
    # Even at the first level some formulations have a trace of the image left.
    yield from sampler(denoise, left[0].sigma * noise if strength == 1 else noised(x0, left[0], noise), left)


def inverted(denoise: Denoise, x: Tensor, levels: Sequence[Level]) -> Tensor:
    """Return the noise that the probability-flow ODE leads to from states at the last level, by Heun's steps.

    Args:
        denoise: gives x̂₀.
        x: states at the last of the levels, (n, …).
        levels: from noisy to clean, as for sampling; the last one must have noise, or the way up has no direction.
    """
    return final(x, heun(denoise, x, levels[::-1]))


def interpolate(
    denoise: Denoise, starts: Tensor, ends: Tensor, levels: Sequence[Level], *, pictures: int, normal: Normal
) -> Tensor:
    """Return pictures on the way from one image to another through noise, both ends included, (n, pictures, …).

    Both images are given the little noise of the last level but the clean one, the same to both, since an image without
    any has no one way up. From there they are led to the first level, where the arc between them is taken, and back.

    Args:
        denoise: gives x̂₀.
        starts: images, (n, …).
        ends: images, (n, …).
        levels: from noisy to clean.
        pictures: how many, at least 2.
        normal: where the little noise is drawn from.
    """
    up, noise = levels[:-1], normal(*starts.shape).to(starts)
    begun = [noised(images, up[-1], noise) for images in (starts, ends)]
    a, b = inverted(denoise, torch.cat(begun), up).chunk(2)
    path = torch.stack([slerp(a, b, share) for share in torch.linspace(0, 1, pictures).tolist()], dim=1)
    x = path.flatten(0, 1)
    return final(x, heun(denoise, x, levels)).view_as(path)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return what lies at a share of the angle on the arc from each row of a to that of b, (n, …).

    Noise of many dimensions lies at one distance from 0; the arc stays there, where the straight line would not.

    References:
        Shoemake (1985), SIGGRAPH.
    """
    one, other = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=1).clamp(-1, 1)
    angle = cosine.arccos()
    arc = angle.sin() > PARALLEL
    weights = [torch.where(arc, (part * angle).sin() / angle.sin(), part).to(a)[:, None] for part in (1 - share, share)]
    return (weights[0] * one + weights[1] * other).view_as(a)

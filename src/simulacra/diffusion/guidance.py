"""Wrappers around a denoiser: classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598), and clipping."""

from torch import Tensor

from simulacra.diffusion.formulations import Denoise
from simulacra.diffusion.schedules import Level


def guided(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """Return a denoiser that goes `scale` times as far from the unconditional estimate as the conditional one does.

    Equation 6 with scale = 1 + w, for estimates of x₀ instead of ε, which differ by the same factor in both. 1 is the
    conditional denoiser itself and 0 the unconditional one, and then the other is not evaluated.

    Example:
        >>> import torch
        >>> from simulacra.diffusion.formulations import FlowMatching
        >>> denoise = guided(lambda x, level: x + 1, lambda x, level: x, scale=3.0)
        >>> denoise(torch.zeros(1), FlowMatching().at(torch.tensor(0.5)))
        tensor([3.])
    """
    if scale in (0.0, 1.0):
        return conditional if scale else unconditional

    def estimate(x: Tensor, level: Level) -> Tensor:
        without = unconditional(x, level)
        return without + scale * (conditional(x, level) - without)

    return estimate


def clipped(denoise: Denoise) -> Denoise:
    """Return a denoiser whose estimates are clipped to [-1, 1], where pixels lie (Ho et al. 2020's sampler)."""

    def estimate(x: Tensor, level: Level) -> Tensor:
        return denoise(x, level).clamp(-1, 1)

    return estimate

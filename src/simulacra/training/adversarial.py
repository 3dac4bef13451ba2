"""What generator and discriminator play for: objectives and penalties as functions of the discriminator's scores.

A score is the discriminator's last output, before any squashing. Where a paper writes a probability D(x), it is the
logistic function of the score.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Critic = Callable[[Tensor], Tensor]
"""Images (n, channels, height, width) to scores (n,)."""


def minimax_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return −V(D, G) = −E log D(x) − E log(1 − D(G(z))): Goodfellow et al. (2014), arXiv:1406.2661, equation 1.

    At the optimal discriminator V is −log 4 + 2 · JSD(data ‖ generator), in nats (their theorem 1).
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """Return the generator's part of V, E log(1 − D(G(z))), in nats: Goodfellow et al., equation 1."""
    return -F.softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """Return −E log D(G(z)) in nats, whose gradient does not vanish where D is sure: Goodfellow et al., section 3."""
    return F.softplus(-fake).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))).

    Source: Lim & Ye (2017), arXiv:1705.02894; Miyato et al. (2018), arXiv:1802.05957.
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return E D(G(z)) − E D(x), minus the Wasserstein-1 distance at the best 1-Lipschitz D.

    Source: Arjovsky et al. (2017), arXiv:1701.07875, with the sign of Gulrajani et al. (2017), arXiv:1704.00028.
    """
    return fake.mean() - real.mean()


def mean_score_generator(fake: Tensor) -> Tensor:
    """Return −E D(G(z)), which generators of both hinge (Miyato et al. 2018) and Wasserstein descend."""
    return -fake.mean()


class Objective(NamedTuple):
    """Both players' losses; each descends its own."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


OBJECTIVES = {
    "minimax": Objective(minimax_discriminator, minimax_generator),
    "non_saturating": Objective(minimax_discriminator, non_saturating_generator),
    "hinge": Objective(hinge_discriminator, mean_score_generator),
    "wasserstein": Objective(wasserstein_discriminator, mean_score_generator),
}


def squared_gradients(scores: Tensor, x: Tensor) -> Tensor:
    """Return ‖∇ₓ D(x)‖² of each image, (n,), through which a gradient can flow on.

    Args:
        scores: of x, (n,), each depending on its own image only.
        x: images that require a gradient.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
    """Return E (‖∇D(x̂)‖ − 1)² on lines from fake to real: Gulrajani et al. (2017), arXiv:1704.00028, equation 3.

    Args:
        critic: the discriminator.
        real: images (n, channels, height, width).
        fake: as many.
        uniform: where on its line each x̂ lies, numbers in [0, 1), (n, 1, 1, 1).
    """
    x = (uniform * real + (1 - uniform) * fake).detach().requires_grad_()
    # The root has no derivative at 0, where a critic without slope begins.
    norm = (squared_gradients(critic(x), x) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def r1_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """Return ½ E ‖∇D(x)‖² over real images: Mescheder et al. (2018), arXiv:1801.04406, for γ = 1.

    Args:
        scores: of the real images, (n,).
        real: the images, which require a gradient.
    """
    return squared_gradients(scores, real).mean() / 2

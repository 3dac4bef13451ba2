"""Latent variables in one layer or two: Sønderby et al. (2016), Ladder Variational Autoencoders, arXiv:1602.02282."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.nn.distributions import gaussian_kl, gaussian_log_prob

Gaussian = tuple[Tensor, Tensor]
"""Mean and log variance of independent coordinates, each (n, d) or (1, d)."""

ACTIVE = 0.01
"""Variance over images, in the prior's units, above which a latent coordinate counts as active."""


class Latents(NamedTuple):
    """One layer of latent variables for a batch: a draw from q, and the two Gaussians that it is weighed by.

    Args:
        z: the draw, (n, d).
        posterior: q(z | x, layers above).
        prior: p(z | layers above).

    Example:
        >>> standard = torch.zeros(1, 3), torch.zeros(1, 3)
        >>> Latents.inferred((torch.ones(2, 3), torch.zeros(2, 3)), standard, epsilon=None).kl().tolist()[0]
        [0.5, 0.5, 0.5]
    """

    z: Tensor
    posterior: Gaussian
    prior: Gaussian

    @classmethod
    def inferred(cls, posterior: Gaussian, prior: Gaussian, epsilon: Tensor | None) -> Self:
        """Return the posterior's draw for standard normal numbers (n, d); for None its mean."""
        return cls(drawn(posterior, epsilon), posterior, prior)

    def kl(self) -> Tensor:
        """Return KL(q ‖ p) in nats per coordinate, (n, d)."""
        return gaussian_kl(*self.posterior, *self.prior)

    def log_ratio(self) -> Tensor:
        """Return log p(z) − log q(z) at the draw, in nats per image, (n,)."""
        return (gaussian_log_prob(self.z, *self.prior) - gaussian_log_prob(self.z, *self.posterior)).sum(1)

    def news(self) -> Tensor:
        """Return how far the posterior's mean lies from the prior's, in the prior's standard deviations, (n, d)."""
        mean, log_variance = self.prior
        return (self.posterior[0] - mean) * torch.exp(-0.5 * log_variance)


def drawn(gaussian: Gaussian, epsilon: Tensor | None) -> Tensor:
    """Return mean + deviation · epsilon, (n, d), for standard normal numbers (n, d); for None the mean."""
    mean, log_variance = gaussian
    return mean if epsilon is None else mean + torch.exp(0.5 * log_variance) * epsilon


def codes(layers: Sequence[Latents]) -> Tensor:
    """Return all layers' draws side by side, (n, coordinates)."""
    return torch.cat([layer.z for layer in layers], dim=1)


def kl_by_coordinate(layers: Sequence[Latents]) -> Tensor:
    """Return KL(q ‖ p) in nats of each latent coordinate, (n, coordinates)."""
    return torch.cat([layer.kl() for layer in layers], dim=1)


def news(layers: Sequence[Latents]) -> Tensor:
    """Return what the images say of each latent coordinate: how far q's mean is from p's, (n, coordinates)."""
    return torch.cat([layer.news() for layer in layers], dim=1)


def active(news: Tensor) -> Tensor:
    """Tell which latent coordinates differ from image to image, (n, coordinates) to (coordinates,).

    Burda et al. (2016), arXiv:1509.00519, ask for Var_x E[z | x] > 0.01 under a prior N(0, 1). Here the mean is taken
    relative to the prior of the image's own class and layer above, which says nothing of the image.
    """
    return news.var(dim=0, correction=0) > ACTIVE


def precision_weighted(first: Gaussian, second: Gaussian) -> Gaussian:
    """Return the normalised product of two Gaussians: precisions add up, means are weighted by them.

    Source: Sønderby et al. (2016), section 2, the precision-weighted combination.
    """
    log_variance = -torch.logaddexp(-first[1], -second[1])
    weights = torch.exp(log_variance - first[1]), torch.exp(log_variance - second[1])
    return weights[0] * first[0] + weights[1] * second[0], log_variance


class Ladder(nn.Module):
    """The upper layer of two: q(z₂ | x) from the encoder's features, and p(z₁ | z₂, y).

    Args:
        n_features: what the encoder hands up.
        latent_dim: coordinates of z₁.
        top_dim: coordinates of z₂.
        n_classes: classes that p(z₁ | z₂, y) knows; 0 for none.

    Example:
        >>> ladder = Ladder(n_features=16, latent_dim=4, top_dim=2, n_classes=0)
        >>> [part.shape for part in ladder.downward(torch.zeros(3, 2), None)]
        [torch.Size([3, 4]), torch.Size([3, 4])]
    """

    def __init__(self, *, n_features: int, latent_dim: int, top_dim: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.up = nn.Sequential(
            nn.SiLU(), nn.Linear(n_features, n_features), nn.SiLU(), nn.Linear(n_features, 2 * top_dim)
        )
        self.down = nn.Sequential(
            nn.Linear(top_dim + n_classes, n_features), nn.SiLU(), nn.Linear(n_features, 2 * latent_dim)
        )

    def upward(self, features: Tensor) -> Gaussian:
        """Return q(z₂ | x) of the encoder's features (n, n_features)."""
        mean, log_variance = self.up(features).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 8)

    def downward(self, z: Tensor, y: Tensor | None) -> Gaussian:
        """Return p(z₁ | z₂, y) of draws of z₂ (n, top_dim)."""
        if self.n_classes and y is not None:
            z = torch.cat([z, F.one_hot(y, self.n_classes).to(z.dtype)], dim=1)
        mean, log_variance = self.down(z).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 8)

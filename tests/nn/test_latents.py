import pytest
import torch
from torch.distributions import Normal, kl_divergence

from simulacra.nn.latents import Ladder, Latents, active, codes, kl_by_coordinate, news, precision_weighted

GENERATOR = torch.Generator().manual_seed(0)


def gaussian(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_variance = torch.randn(2, *shape, generator=GENERATOR, dtype=torch.float64)
    return mean, log_variance


def as_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> Normal:
    return Normal(mean, torch.exp(0.5 * log_variance))


def test_densities_of_a_layer_agree_with_torch() -> None:
    posterior, prior, epsilon = gaussian(50, 3), gaussian(50, 3), gaussian(50, 3)[0]
    layer = Latents.inferred(posterior, prior, epsilon)
    q, p = as_normal(*posterior), as_normal(*prior)
    torch.testing.assert_close(layer.z, q.mean + q.stddev * epsilon)
    torch.testing.assert_close(layer.kl(), kl_divergence(q, p))
    torch.testing.assert_close(layer.log_ratio(), (p.log_prob(layer.z) - q.log_prob(layer.z)).sum(1))
    assert torch.equal(Latents.inferred(posterior, prior, None).z, posterior[0])


def test_layers_stand_side_by_side() -> None:
    layers = [Latents.inferred(gaussian(5, width), gaussian(1, width), None) for width in (3, 2)]
    assert codes(layers).shape == kl_by_coordinate(layers).shape == news(layers).shape == (5, 5)
    assert torch.equal(codes(layers)[:, 3:], layers[1].z)


def test_the_weighted_product_is_the_normalised_product_of_the_densities() -> None:
    first, second = gaussian(1, 1), gaussian(1, 1)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    product = (as_normal(*first).log_prob(grid) + as_normal(*second).log_prob(grid)).exp()
    product /= product.sum() * 24 / 20_000
    torch.testing.assert_close(as_normal(*precision_weighted(first, second)).log_prob(grid).exp(), product)


def test_a_coordinate_that_repeats_its_prior_is_not_active() -> None:
    classes = torch.tensor([0, 1]).repeat(100)
    prior = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])[classes], torch.tensor([0.0, -2.0]).expand(200, -1)
    # By class the first coordinate's mean varies by 4, and yet only the second says something of the single image.
    told = torch.zeros(200, 2)
    told[:, 1] = torch.randn(200, generator=GENERATOR)
    layer = Latents.inferred((prior[0] + told, prior[1]), prior, None)
    assert active(news([layer])).tolist() == [False, True]
    assert float(layer.news()[:, 1].std()) == pytest.approx(float(told[:, 1].std()) * torch.e, rel=1e-5)


def test_the_upper_layer_gives_the_lower_one_a_prior_by_class() -> None:
    ladder = Ladder(n_features=8, latent_dim=3, top_dim=2, n_classes=4)
    z = torch.zeros(2, 2)
    mean, log_variance = ladder.downward(z, torch.tensor([0, 3]))
    assert mean.shape == log_variance.shape == (2, 3) and not torch.equal(mean[0], mean[1])
    assert [part.shape for part in ladder.upward(torch.zeros(2, 8))] == [torch.Size([2, 2])] * 2

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from simulacra.nn.distributions import discretised_logistic_log_prob, gaussian_kl

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


@pytest.mark.parametrize("mean", [-1.7, -1.0, 0.0, 0.31, 1.0, 2.5])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0, 1.0])
def test_probabilities_of_all_levels_sum_to_one(mean: float, log_scale: float) -> None:
    log_prob = discretised_logistic_log_prob(LEVELS, torch.tensor(mean), torch.tensor(log_scale))
    assert log_prob.exp().sum() == pytest.approx(1, abs=1e-6)
    assert torch.isfinite(log_prob).all()


def test_probability_is_the_difference_of_the_logistic_distribution_function() -> None:
    mean, scale, level = 0.2, 0.1, 150
    centre = level / 127.5 - 1
    expected = 1 / (1 + math.exp(-(centre + 1 / 255 - mean) / scale)) - 1 / (
        1 + math.exp(-(centre - 1 / 255 - mean) / scale)
    )
    value = discretised_logistic_log_prob(LEVELS[level], torch.tensor(mean), torch.tensor(math.log(scale)))
    assert float(value.exp()) == pytest.approx(expected, rel=1e-6)


def test_gradients_are_finite_far_from_the_mean() -> None:
    mean = torch.full((256,), -1.0, requires_grad=True)
    log_scale = torch.full((256,), -7.0, requires_grad=True)
    discretised_logistic_log_prob(LEVELS.float(), mean, log_scale).sum().backward()
    assert mean.grad is not None and torch.isfinite(mean.grad).all()
    assert log_scale.grad is not None and torch.isfinite(log_scale.grad).all()


def test_gaussian_kl_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c, d = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    expected = kl_divergence(Normal(a, torch.exp(b / 2)), Normal(c, torch.exp(d / 2)))
    torch.testing.assert_close(gaussian_kl(a, b, c, d), expected)

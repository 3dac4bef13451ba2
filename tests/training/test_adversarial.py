"""Against closed forms: at the optimal discriminator of two known densities, and on critics that are linear."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from simulacra.training.adversarial import OBJECTIVES, gradient_penalty, r1_penalty, squared_gradients

# Two distributions over four outcomes, by how often each occurs among 20 draws: means over the draws are exact.
REAL, FAKE = torch.tensor([9, 6, 4, 1]), torch.tensor([2, 4, 6, 8])
P, Q = REAL.double() / 20, FAKE.double() / 20
JSD = float((P * torch.log(2 * P / (P + Q)) + Q * torch.log(2 * Q / (P + Q))).sum() / 2)
KL_FAKE_REAL = float((Q * torch.log(Q / P)).sum())
# D* = p / (p + q), Goodfellow et al. (2014), proposition 1; its score is log p / q.
OPTIMAL = torch.log(P / Q)


def drawn(scores: Tensor) -> tuple[Tensor, Tensor]:
    """One score an outcome to one a draw."""
    return scores.repeat_interleave(REAL), scores.repeat_interleave(FAKE)


def best_of(name: str, grid: Tensor) -> Tensor:
    """Return the scores that minimise the discriminator's loss, each outcome's found on its own by trying all."""
    best = torch.zeros(4, dtype=torch.double)
    for outcome in range(4):
        tried = best.repeat(len(grid), 1)
        tried[:, outcome] = grid
        losses = torch.stack([OBJECTIVES[name].discriminator(*drawn(scores)) for scores in tried])
        best[outcome] = grid[losses.argmin()]
    return best


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_at_the_optimal_discriminator_the_value_is_minus_log_4_plus_twice_the_jensen_shannon_divergence(
    name: str,
) -> None:
    loss = OBJECTIVES[name].discriminator
    assert float(-loss(*drawn(OPTIMAL))) == pytest.approx(-math.log(4) + 2 * JSD, abs=1e-12)
    scores = OPTIMAL.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(*drawn(scores)), scores)
    assert gradient.abs().max() < 1e-12
    found = best_of(name, torch.linspace(-4, 4, 1601, dtype=torch.double))
    torch.testing.assert_close(found, OPTIMAL, atol=0.003, rtol=0)
    same = torch.zeros(20, dtype=torch.double)
    assert float(-loss(same, same)) == pytest.approx(-math.log(4))


def test_generators_of_the_two_first_objectives_at_the_optimal_discriminator() -> None:
    _, fake = drawn(OPTIMAL)
    mixture = (P + Q) / 2
    kl_to_mixture = float((Q * torch.log(Q / mixture)).sum())
    # E_q log(1 − D*) = E_q log q / (p + q) = KL(q ‖ m) − log 2; −E_q log D* = KL(q ‖ p) more than minus that.
    assert float(OBJECTIVES["minimax"].generator(fake)) == pytest.approx(kl_to_mixture - math.log(2), abs=1e-12)
    expected = KL_FAKE_REAL - kl_to_mixture + math.log(2)
    assert float(OBJECTIVES["non_saturating"].generator(fake)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [-1.5, 0.4, 2.0])
def test_generators_descend_the_divergences_that_theory_says(shift: float) -> None:
    """Data N(0, 1), generator N(θ, 1), D fixed at its optimum: the gradient in θ is that of a divergence.

    Minimax: 2 JSD (Goodfellow et al. 2014, theorem 1). Non-saturating: KL(generator ‖ data) − 2 JSD (Arjovsky & Bottou
    2017, arXiv:1701.04862, theorem 2.5).
    """
    grid = np.linspace(-12, 12, 40_001)

    def twice_jsd(theta: float) -> float:
        p, q = norm.pdf(grid), norm.pdf(grid, theta)
        mixture = (p + q) / 2
        return float(np.trapezoid(p * np.log(p / mixture) + q * np.log(q / mixture), grid))

    slope = (twice_jsd(shift + 1e-4) - twice_jsd(shift - 1e-4)) / 2e-4
    # Quantiles instead of random draws: the means are then exact to the fourth digit.
    quantiles = torch.from_numpy(norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    for name, expected in (("minimax", slope), ("non_saturating", shift - slope)):
        theta = torch.tensor(shift, dtype=torch.double, requires_grad=True)
        x = theta + quantiles
        scores = shift**2 / 2 - shift * x  # log N(x; 0, 1) / N(x; shift, 1)
        (gradient,) = torch.autograd.grad(OBJECTIVES[name].generator(scores), theta)
        assert float(gradient) == pytest.approx(expected, abs=2e-3), name


def test_where_the_discriminator_is_sure_only_the_minimax_generator_is_left_without_a_gradient() -> None:
    scores = torch.full((4,), -20.0, requires_grad=True)
    slopes = {}
    for name in ("minimax", "non_saturating"):
        (gradient,) = torch.autograd.grad(OBJECTIVES[name].generator(scores), scores)
        slopes[name] = float(gradient.sum())
    assert abs(slopes["minimax"]) < 1e-8 and slopes["non_saturating"] == pytest.approx(-1)


def test_hinge_is_twice_the_overlap_at_its_optimal_discriminator() -> None:
    best = torch.sign(P - Q)
    _, fake = drawn(best)
    loss = OBJECTIVES["hinge"].discriminator
    overlap = float(torch.minimum(P, Q).sum())
    assert float(loss(*drawn(best))) == pytest.approx(2 * overlap, abs=1e-12)
    torch.testing.assert_close(best_of("hinge", torch.linspace(-3, 3, 121, dtype=torch.double)), best)
    # The generator then descends E_q D* = Σ q sign(p − q), with the sign turned.
    assert float(OBJECTIVES["hinge"].generator(fake)) == pytest.approx(-float((Q * best).sum()))


@pytest.mark.parametrize("shift", [-1.5, 0.7])
def test_wasserstein_is_minus_the_distance_at_the_best_critic_of_slope_one(shift: float) -> None:
    real = torch.from_numpy(norm.ppf((np.arange(1000) + 0.5) / 1000))
    fake = real + shift  # N(0, 1) and N(shift, 1) lie |shift| apart, whatever is moved where
    slope = -math.copysign(1, shift)
    assert float(OBJECTIVES["wasserstein"].discriminator(slope * real, slope * fake)) == pytest.approx(-abs(shift))
    assert float(OBJECTIVES["wasserstein"].generator(slope * fake)) == pytest.approx(abs(shift), abs=1e-9)


def images(n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 2, 3, 3, dtype=torch.double, generator=generator) for _ in range(2))
    return real, fake, torch.rand(n, 1, 1, 1, dtype=torch.double, generator=generator)


def test_gradient_penalty_of_a_linear_critic_is_how_far_its_slope_is_from_one() -> None:
    weight = torch.linspace(-1, 2, 18, dtype=torch.double).requires_grad_()
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight + 3, *images())
    norm_of_weight = weight.detach().norm()
    assert float(penalty.detach()) == pytest.approx(float(norm_of_weight - 1) ** 2, rel=1e-9)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * (norm_of_weight - 1) * weight.detach() / norm_of_weight)


def test_gradient_penalty_is_taken_between_real_and_fake() -> None:
    real, fake, uniform = images()
    penalty = gradient_penalty(lambda x: x.square().flatten(1).sum(1) / 2, real, fake, uniform)  # its gradient is x
    between = uniform * real + (1 - uniform) * fake
    assert float(penalty.detach()) == pytest.approx(float((between.flatten(1).norm(dim=1) - 1).square().mean()))


def test_a_critic_without_slope_is_penalised_with_a_finite_gradient() -> None:
    weight = torch.zeros(18, dtype=torch.double, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, *images())
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert float(penalty.detach()) == pytest.approx(1, abs=1e-5) and torch.isfinite(gradient).all()


def test_r1_of_a_linear_critic_is_half_its_squared_slope() -> None:
    weight = torch.linspace(-1, 2, 18, dtype=torch.double).requires_grad_()
    real = images()[0].requires_grad_()
    penalty = r1_penalty(real.flatten(1) @ weight, real)
    assert float(penalty.detach()) == pytest.approx(float(weight.detach().square().sum()) / 2)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, weight.detach())


def test_squared_gradients_are_one_number_an_image() -> None:
    x = images()[0].requires_grad_()
    found = squared_gradients(x.square().flatten(1).sum(1), x)
    torch.testing.assert_close(found, 4 * x.detach().square().flatten(1).sum(1))

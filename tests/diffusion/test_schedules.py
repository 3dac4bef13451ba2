import math

import pytest
import torch
from torch import Tensor

from simulacra.diffusion.formulations import DDPM, EDM, FlowMatching
from simulacra.diffusion.schedules import (
    SCHEDULES,
    Level,
    epsilon_of,
    noised,
    noised_further,
    posterior,
    score_of,
    step_back,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("timesteps", [10, 100, 1000])
def test_noising_at_once_is_noising_step_by_step(schedule: str, timesteps: int) -> None:
    alphas_bar = SCHEDULES[schedule](timesteps)
    betas = 1 - alphas_bar[1:] / alphas_bar[:-1]
    assert ((betas > 0) & (betas <= 0.9991)).all() and len(betas) == timesteps
    process, x0 = DDPM(timesteps=timesteps, schedule=schedule), 1.7
    mean, variance = x0, 0.0
    for t, beta in enumerate(betas.tolist(), 1):
        # q(x_t | x_{t−1}) = N(√(1 − β) x_{t−1}, β)
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        level = process.at(torch.tensor(t))
        assert float(level.alpha) * x0 == pytest.approx(mean, rel=1e-9)
        assert float(level.sigma) ** 2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_draws_have_the_mean_and_variance_of_the_iterated_process(schedule: str) -> None:
    process, n = DDPM(timesteps=40, schedule=schedule), 200_000
    x = torch.full((n, 1), 0.8, dtype=torch.float64)
    for t in range(1, 21):
        x = noised_further(x, process.at(torch.tensor(t - 1)), process.at(torch.tensor(t)), normal(n, 1, seed=t))
    at_once = noised(torch.full((n, 1), 0.8, dtype=torch.float64), process.at(torch.tensor(20)), normal(n, 1))
    assert float(x.mean()) == pytest.approx(float(at_once.mean()), abs=0.01)
    assert float(x.var()) == pytest.approx(float(at_once.var()), abs=0.01)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("timesteps", [10, 100, 1000])
def test_nothing_is_left_of_the_image_at_the_end_and_all_at_the_beginning(schedule: str, timesteps: int) -> None:
    alphas_bar = SCHEDULES[schedule](timesteps)
    assert alphas_bar[0] == 1 and alphas_bar[-1] < 1e-3


def test_linear_and_cosine_are_the_papers() -> None:
    linear, cosine = SCHEDULES["linear"](1000), SCHEDULES["cosine"](1000)
    assert float(1 - linear[1]) == pytest.approx(1e-4) and float(1 - linear[1000] / linear[999]) == pytest.approx(0.02)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 300, 700)]
    assert cosine[[300, 700]].tolist() == pytest.approx([f[1] / f[0], f[2] / f[0]])


PAIRS = {
    "ddpm": DDPM(timesteps=10).levels(10),
    "flow_matching": FlowMatching().levels(10),
    "edm": EDM().levels(10),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_posterior_follows_from_bayes_rule(name: str) -> None:
    """(x_then, x_now) given x₀ are jointly normal, so that the conditional is known from their covariance."""
    x, x0 = normal(1, 3), normal(1, 3, seed=1)
    for then, now in zip(PAIRS[name][2:-1], PAIRS[name][1:], strict=False):
        ratio, variance = step_back(then, now)
        covariance = ratio * then.sigma**2
        total = ratio**2 * then.sigma**2 + variance
        assert float(total) == pytest.approx(float(now.sigma**2)), "both ways lead to the same level"
        mean = then.alpha * x0 + covariance / total * (x - now.alpha * x0)
        found = posterior(x, x0, now, then)
        torch.testing.assert_close(found[0], mean)
        assert float(found[1]) == pytest.approx(float(then.sigma**2 - covariance**2 / total))


def test_posterior_where_nothing_is_left_of_the_image_is_noising_anew() -> None:
    first, second = FlowMatching().levels(4)[:2]
    mean, variance = posterior(normal(2, 3), normal(2, 3, seed=1), first, second)
    torch.testing.assert_close(mean, second.alpha * normal(2, 3, seed=1))
    assert float(variance) == pytest.approx(float(second.sigma) ** 2)


@pytest.mark.parametrize("name", PAIRS)
def test_score_is_the_gradient_of_the_noisy_log_density(name: str) -> None:
    mean, deviation = 0.3, 0.6
    for level in PAIRS[name][1:-1]:
        x = normal(5, 2).requires_grad_()
        variance = (level.alpha * deviation) ** 2 + level.sigma**2
        log_density = torch.distributions.Normal(level.alpha * mean, variance.sqrt()).log_prob(x).sum()
        (gradient,) = torch.autograd.grad(log_density, x)
        x0 = mean + level.alpha * deviation**2 / variance * (x.detach() - level.alpha * mean)
        torch.testing.assert_close(score_of(x.detach(), x0, level), gradient)
        torch.testing.assert_close(-epsilon_of(x.detach(), x0, level) / level.sigma, gradient)


def test_a_batch_may_have_one_level_an_image() -> None:
    process, x0 = DDPM(timesteps=100), normal(3, 1, 2, 2)
    times, noise = torch.tensor([1, 50, 100]), normal(3, 1, 2, 2, seed=1)
    together = noised(x0, process.at(times), noise)
    one_by_one = [noised(x0[i : i + 1], process.at(times[i]), noise[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(one_by_one))


def test_levels_keep_the_type_of_the_states() -> None:
    level = Level(*torch.tensor([0.5, 0.6, 0.8], dtype=torch.float64))
    assert noised(torch.zeros(2, 3), level, torch.zeros(2, 3)).dtype == torch.float32
    many = FlowMatching().at(torch.full((2,), 0.5, dtype=torch.float64))
    assert noised(torch.zeros(2, 3), many, torch.zeros(2, 3)).dtype == torch.float32
    assert float(level.log_snr_half) == pytest.approx(math.log(0.75))

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from simulacra.diffusion import elbo
from simulacra.diffusion.formulations import DDPM
from simulacra.diffusion.schedules import Level, noised

GREY = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def normal_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_terms_match_kl_divergences_written_out(schedule: str) -> None:
    """From the βs alone, by equations 6 and 7 of Ho et al., and torch's KL between two normals."""
    process = DDPM(timesteps=8, schedule=schedule)
    betas = 1 - process.alphas_bar[1:] / process.alphas_bar[:-1]
    bars = torch.cumprod(1 - betas, 0)
    x0, estimate = GREY[[0, 3, 200, 255]][None], 0.3 * normal_from(0)(1, 4)
    for t in range(2, 9):
        beta, bar, bar_before = betas[t - 1], bars[t - 1], bars[t - 2]
        x = bar.sqrt() * x0 + (1 - bar).sqrt() * normal_from(t)(1, 4)

        def mean(image: Tensor, beta=beta, bar=bar, bar_before=bar_before, x=x) -> Tensor:
            first = bar_before.sqrt() * beta / (1 - bar)
            return first * image + (1 - beta).sqrt() * (1 - bar_before) / (1 - bar) * x

        deviation = ((1 - bar_before) / (1 - bar) * beta).sqrt()
        expected = kl_divergence(Normal(mean(x0), deviation), Normal(mean(estimate), deviation)).sum()
        found = elbo.transition_nats(x0, estimate, process.at(torch.tensor(t)), process.at(torch.tensor(t - 1)))
        assert float(found) == pytest.approx(float(expected), rel=1e-6)
    last = Normal(bars[-1].sqrt() * x0, (1 - bars[-1]).sqrt().expand_as(x0))
    expected = kl_divergence(last, Normal(torch.zeros_like(x0), torch.ones_like(x0))).sum()
    assert float(elbo.prior_nats(x0, process.at(torch.tensor(8)))) == pytest.approx(float(expected))


@pytest.mark.parametrize("sigma", [1e-3, 0.01, 0.3])
@pytest.mark.parametrize("mean", [-1.0, 0.1, 0.999])
def test_decoder_s_levels_sum_to_one(mean: float, sigma: float) -> None:
    nats = elbo.decoder_log_prob(GREY[:, None], torch.full((256, 1), mean, dtype=torch.float64), sigma)
    assert float(nats.exp().sum()) == pytest.approx(1)


def test_decoder_is_the_mass_between_two_levels_and_finite_far_off() -> None:
    x0, mean = GREY[[0, 10, 128, 255]][:, None], torch.tensor([[-0.99], [-0.9], [0.02], [0.97]]).double()
    nats = elbo.decoder_log_prob(x0, mean, 0.02)
    edges = [(-math.inf, GREY[0] + 1 / 255), *((GREY[i] - 1 / 255, GREY[i] + 1 / 255) for i in (10, 128))]
    edges.append((GREY[255] - 1 / 255, math.inf))
    cdf = Normal(mean[:, 0], torch.tensor(0.02, dtype=torch.float64))
    upper, lower = (cdf.cdf(torch.tensor([float(edge[k]) for edge in edges]).double()) for k in (1, 0))
    torch.testing.assert_close(nats, (upper - lower).log(), rtol=1e-6, atol=1e-6)
    far = elbo.decoder_log_prob(torch.tensor([[1.0], [-1.0], [0.5]]), torch.tensor([[-1.0], [1.0], [-0.9]]), 1e-3)
    assert torch.isfinite(far).all() and (far < -1e5).all()


def off_by(process: DDPM, errors: Tensor):
    """A denoiser that is wrong by so much at each time, whatever it sees, so that each term is known."""
    return lambda x, level: torch.full_like(x, 0.2) + errors.to(x)[level.time.long()].reshape(-1, 1)


def test_an_estimate_from_few_times_is_right_on_average() -> None:
    process, n = DDPM(timesteps=30), 4000
    errors = 0.05 * (1 + torch.arange(31).double().sin())
    x0 = torch.full((n, 3), 0.2, dtype=torch.float64)
    exact = sum(
        float(elbo.transition_nats(x0[:1], x0[:1] + errors[t], *(process.at(torch.tensor(s)) for s in (t, t - 1))))
        for t in range(2, 31)
    )
    for draws in (1, 3):
        looks = elbo.glimpses(
            x0,
            process,
            elbo.proposal(process, 0.3),
            draws=draws,
            uniform=uniform_from(0)(n),
            normal=normal_from(1),
        )
        found = elbo.transitions(off_by(process, errors), x0, looks)
        assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / math.sqrt(n) + 1e-9)


def test_times_are_chosen_by_their_probabilities_one_in_each_stratum() -> None:
    probabilities = torch.tensor([0.5, 0.1, 0.1, 0.3], dtype=torch.float64)
    index = elbo.stratified(probabilities, (torch.arange(1000) + 0.5) / 1000, draws=2)
    shares = torch.bincount(index.flatten(), minlength=4) / index.numel()
    torch.testing.assert_close(shares.double(), probabilities, rtol=0, atol=1e-3)
    assert (index[:, 0] == 0).all() and (index[:, 1] > 0).all()


def test_the_bound_of_the_best_denoiser_of_a_gaussian_is_its_likelihood_but_for_the_steps_size() -> None:
    """Pixels of N(m, s²), many steps evenly spaced in log SNR, the first of them some grey levels wide."""
    m, s, n = 0.1, 0.25, 3000
    process = DDPM(timesteps=2000)
    process.alphas_bar = torch.cat([torch.ones(1), torch.linspace(7, -12, 2000).double().sigmoid()])
    levels = ((m + s * normal_from(0)(n, 1) + 1) * 127.5).round().clamp(0, 255).long()
    x0 = GREY[levels]

    def best(x: Tensor, level: Level) -> Tensor:
        level = level.along(x)
        return m + level.alpha * s**2 / ((level.alpha * s) ** 2 + level.sigma**2) * (x - level.alpha * m)

    first = process.at(torch.tensor(1))
    sigma = float((1 / (1 / s**2 + first.snr)).sqrt())
    outer, inner = elbo.terms(
        [best], x0, process, sigma=sigma, signal=s, draws=20, normal=normal_from(1), uniform=uniform_from(2)
    )
    bound = float((outer[:, 0] - inner.mean(0)[:, 0]).mean())
    exact = float(elbo.decoder_log_prob(x0, torch.full_like(x0, m), s).mean())
    error = float((outer[:, 0] - inner.mean(0)[:, 0] - elbo.decoder_log_prob(x0, torch.full_like(x0, m), s)).std())
    assert exact - 0.06 < bound < exact + 3 * error / math.sqrt(n)


def test_classes_are_summed_out_exactly_where_nothing_is_noisy() -> None:
    log_prior = torch.tensor([0.2, 0.5, 0.3]).double().log()
    outer, inner = normal_from(0)(7, 3), normal_from(1)(7, 3).abs()
    found = elbo.summed_out(outer - outer, torch.stack([inner - outer] * 2), log_prior)
    torch.testing.assert_close(found, log_prior + outer - inner)


def test_noise_makes_the_bound_no_better_than_it_is() -> None:
    """The sum over classes of noisy bounds would be above the true one on average; this one is below."""
    log_prior, n = torch.full((3,), 1 / 3).double().log(), 40_000
    true = torch.tensor([-5.0, -5.5, -7.0]).double()
    inner = -true + 2 * normal_from(0)(2, n, 3)
    exact = float(torch.logsumexp(log_prior + true, 0))
    naive = torch.logsumexp(log_prior - inner.mean(0), 1)
    found = torch.logsumexp(elbo.summed_out(torch.zeros(n, 3).double(), inner, log_prior), 1)
    assert float(naive.mean()) > exact + 0.1
    assert exact - 3 < float(found.mean()) < exact


def test_a_class_that_never_occurs_has_no_share() -> None:
    log_prior = torch.tensor([0.5, 0.5, 0.0]).double().log()
    found = elbo.summed_out(torch.zeros(2, 3).double(), normal_from(0)(2, 2, 3), log_prior)
    assert (found[:, 2] == -math.inf).all() and torch.isfinite(found[:, :2]).all()


def test_without_classes_the_bound_is_the_mean_of_the_estimates() -> None:
    outer, inner = normal_from(0)(4, 1), normal_from(1)(2, 4, 1)
    torch.testing.assert_close(elbo.summed_out(outer, inner, torch.zeros(1).double()), outer - inner.mean(0))


def test_noisy_states_are_seen_at_their_own_times() -> None:
    process, x0 = DDPM(timesteps=50), torch.zeros(6, 2, dtype=torch.float64)
    looks = elbo.glimpses(
        x0, process, elbo.proposal(process, 0.3), draws=3, uniform=uniform_from(0)(6), normal=normal_from(1)
    )
    again = normal_from(1)
    for look in looks:
        torch.testing.assert_close(look.x, noised(x0, look.now, again(6, 2)))
        assert torch.equal(look.now.time - look.then.time, torch.ones(6, dtype=look.now.time.dtype))
        assert look.now.time.min() >= 2 and look.now.time.max() <= 50

import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from simulacra.diffusion.formulations import DDPM, EDM, Denoise, FlowMatching, Formulation, Spacing
from simulacra.diffusion.samplers import (
    DETERMINISTIC,
    State,
    ancestral,
    ddim,
    dpm_solver,
    euler,
    final,
    heun,
    midpoint,
    sde_dpm_solver,
)
from simulacra.diffusion.schedules import Level, noised

MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
VARIANCES = torch.tensor([0.49, 0.04], dtype=torch.float64)
"""A Gaussian with these independent coordinates is the data; its score is known at every level."""
FORMULATIONS: dict[str, Formulation] = {
    "ddpm": DDPM(timesteps=1000),
    "ddpm linear": DDPM(timesteps=1000, schedule="linear"),
    "flow_matching": FlowMatching(),
    "edm": EDM(),
}


def denoise(x: Tensor, level: Level) -> Tensor:
    """E[x₀ | x] of the Gaussian."""
    gain = level.alpha * VARIANCES / (level.alpha**2 * VARIANCES + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


def normal_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def marginal(level: Level) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the noisy data."""
    return level.alpha * MEAN, (level.alpha**2 * VARIANCES + level.sigma**2).sqrt()


def transported(x: Tensor, now: Level, then: Level) -> Tensor:
    """Where the probability-flow ODE leads from x: for Gaussians it keeps the number of standard deviations."""
    (mean, deviation), (new_mean, new_deviation) = marginal(now), marginal(then)
    return new_mean + new_deviation * (x - mean) / deviation


def between(formulation: Formulation, first: float, last: float, steps: int) -> list[Level]:
    """Levels of evenly spaced times that stop before the noise is gone."""
    return [formulation.at(time) for time in torch.linspace(first, last, steps + 1, dtype=torch.float64)]


class Smooth(DDPM):
    """The cosine process in continuous time, so that its steps can be made as small as one likes."""

    def at(self, time: Tensor) -> Level:
        angle = time * math.pi / 2
        return Level(time, angle.cos(), angle.sin())


PATHS = {
    "ddpm": partial(between, Smooth(), 0.95, 0.05),
    "flow_matching": partial(between, FlowMatching(), 0.95, 0.05),
    "edm": partial(between, EDM(), 3.0, 0.3),
}
ORDERS = [("euler", 1), ("heun", 2), ("midpoint", 2), ("dpm_solver", 2)]
X = torch.tensor([[1.0, 2.0], [-0.7, 0.4]], dtype=torch.float64)


def order_of(name: str, path: str, guess: Denoise, exact: Tensor) -> float:
    """Slope of log error over log step size."""
    sizes, errors = [64, 128, 256, 512], []
    for steps in sizes:
        found = final(X, DETERMINISTIC[name](guess, X, PATHS[path](steps)))
        errors.append(float((found - exact).abs().max()))
    return -float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_error_on_a_gaussian_falls_with_the_order_of_the_solver(path: str, name: str, order: int) -> None:
    levels = PATHS[path](1)
    found = order_of(name, path, denoise, transported(X, levels[0], levels[-1]))
    if name == "midpoint":  # whose leading error happens to vanish on Gaussians
        assert found > order - 0.1
    else:
        assert found == pytest.approx(order, abs=0.15)


def of_two_gaussians(x: Tensor, level: Level) -> Tensor:
    """E[x₀ | x] of two narrow Gaussians at ±0.8 in each coordinate."""
    centres, variance = torch.tensor([-0.8, 0.8], dtype=torch.float64), 0.05
    total = level.alpha**2 * variance + level.sigma**2
    share = torch.softmax(-0.5 * (x[..., None] - level.alpha * centres) ** 2 / total, dim=-1)
    means = centres + level.alpha * variance / total * (x[..., None] - level.alpha * centres)
    return (share * means).sum(-1)


@cache
def of_very_many_steps(path: str) -> Tensor:
    """The solution for two Gaussians, as exact as is needed beside 512 steps."""
    return final(X, heun(of_two_gaussians, X, PATHS[path](8192)))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_error_on_two_gaussians_falls_with_the_order_of_the_solver(path: str, name: str, order: int) -> None:
    assert order_of(name, path, of_two_gaussians, of_very_many_steps(path)) == pytest.approx(order, abs=0.2)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), torch.cov(x.T)


def assert_is_the_data(x: Tensor, tolerance: float) -> None:
    mean, covariance = moments(x)
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=tolerance)
    torch.testing.assert_close(covariance, torch.diag(VARIANCES), rtol=0, atol=tolerance)


SAMPLERS = {
    **{name: lambda *given, sampler=sampler: sampler(*given) for name, sampler in DETERMINISTIC.items()},
    "ancestral": lambda *given: ancestral(*given, normal=normal_from(1)),
    "sde_dpm_solver": lambda *given: sde_dpm_solver(*given, normal=normal_from(1)),
    **{f"ddim {eta}": lambda *given, eta=eta: ddim(*given, normal=normal_from(1), eta=eta) for eta in (0.0, 0.5, 1.0)},
}


@pytest.mark.parametrize("spacing", ["time", "karras"])
@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_ends_at_the_data_s_mean_and_covariance(name: str, formulation: str, spacing: Spacing) -> None:
    levels = FORMULATIONS[formulation].levels(400, spacing)
    x = levels[0].sigma * normal_from(0)(20_000, 2)
    assert_is_the_data(final(x, SAMPLERS[name](denoise, x, levels)), tolerance=0.02)


def test_sde_dpm_solver_is_its_equation() -> None:
    levels = [DDPM(timesteps=100).at(torch.tensor(time)) for time in (90, 60, 20)]
    start, noise = normal_from(0)(5, 2), normal_from(1)
    first, second = [state.x for state in sde_dpm_solver(denoise, start, levels, normal=noise)]
    noise, estimates = normal_from(1), [denoise(start, levels[0]), denoise(first, levels[1])]
    h = [float(then.log_snr_half - now.log_snr_half) for now, then in pairwise(levels)]
    middle = [estimates[0], estimates[1] + h[1] / (2 * h[0]) * (estimates[1] - estimates[0])]
    for k, (x, found) in enumerate([(start, first), (first, second)]):
        sigma, sigma_then, alpha_then = levels[k].sigma, levels[k + 1].sigma, levels[k + 1].alpha
        expected = sigma_then / sigma * math.exp(-h[k]) * x + alpha_then * (1 - math.exp(-2 * h[k])) * middle[k]
        expected += sigma_then * math.sqrt(1 - math.exp(-2 * h[k])) * noise(5, 2)
        torch.testing.assert_close(found, expected)


def test_sde_dpm_solver_needs_fewer_steps_than_ancestral_sampling() -> None:
    levels = FlowMatching().levels(20)
    x = normal_from(0)(100_000, 2)
    errors = {}
    for name in ("ancestral", "sde_dpm_solver"):
        found = torch.cov(final(x, SAMPLERS[name](denoise, x, levels)).T)
        errors[name] = float((found - torch.diag(VARIANCES)).abs().max())
    assert errors["sde_dpm_solver"] < errors["ancestral"] / 2


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_ddim_with_eta_1_is_ancestral(formulation: str) -> None:
    levels = FORMULATIONS[formulation].levels(12)
    x = levels[0].sigma * normal_from(0)(50, 2)
    ours, theirs = (
        list(sampler(denoise, x, levels, normal=normal_from(3))) for sampler in (partial(ddim, eta=1.0), ancestral)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.x, other.x)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_every_eta_has_the_marginals_of_the_ancestral_process(eta: float) -> None:
    """Theorem 1 of the paper: with the exact image behind the state, each step leads to q(x_t | x₀)."""
    levels, x0 = DDPM(timesteps=1000).levels(8), torch.tensor([0.4, -0.9], dtype=torch.float64)
    x = noised(x0.expand(100_000, 2), levels[0], normal_from(0)(100_000, 2))
    for state in ddim(lambda x, level: x0.expand_as(x), x, levels[:-1], normal=normal_from(1), eta=eta):
        mean, covariance = moments(state.x)
        torch.testing.assert_close(mean, state.level.alpha * x0, rtol=0, atol=0.01)
        torch.testing.assert_close(covariance, state.level.sigma**2 * torch.eye(2).double(), rtol=0, atol=0.015)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_euler_is_ddim_without_noise(formulation: str) -> None:
    levels = FORMULATIONS[formulation].levels(9)
    x = levels[0].sigma * normal_from(0)(5, 2)
    torch.testing.assert_close(
        final(x, euler(denoise, x, levels)), final(x, ddim(denoise, x, levels, normal=normal_from(0)))
    )


def test_euler_and_midpoint_follow_flow_matching_s_velocity() -> None:
    """dx = v dt, written as in the paper: v = (x − x̂₀) / t."""
    levels = FlowMatching().levels(8)
    x = normal_from(0)(5, 2)

    def velocity(state: Tensor, time: float) -> Tensor:
        return (state - denoise(state, FlowMatching().at(torch.tensor(time, dtype=torch.float64)))) / time

    straight, middle, h = x.clone(), x.clone(), 1 / 8
    for k in range(8, 0, -1):
        straight = straight - h * velocity(straight, k * h)
    for k in range(8, 0, -2):
        halfway = middle - h * velocity(middle, k * h)
        middle = middle - 2 * h * velocity(halfway, (k - 1) * h)
    torch.testing.assert_close(final(x, euler(denoise, x, levels)), straight)
    torch.testing.assert_close(final(x, midpoint(denoise, x, levels)), middle)


def test_heun_is_algorithm_1_of_edm() -> None:
    levels = EDM().levels(7)
    x = expected = 80 * normal_from(0)(5, 2)
    for now, then in pairwise(levels):
        d = (expected - denoise(expected, now)) / now.sigma
        ahead = expected + (then.sigma - now.sigma) * d
        if then.sigma:
            d = (d + (ahead - denoise(ahead, then)) / then.sigma) / 2
            ahead = expected + (then.sigma - now.sigma) * d
        expected = ahead
    torch.testing.assert_close(final(x, heun(denoise, x, levels)), expected)


def test_dpm_solver_is_algorithm_2_of_the_paper() -> None:
    levels = PATHS["ddpm"](6)
    x = expected = normal_from(0)(5, 2)
    lambdas = [math.log(level.alpha / level.sigma) for level in levels]
    answers: list[Tensor] = []
    for i in range(1, len(levels)):
        answers.append(denoise(expected, levels[i - 1]))
        h = lambdas[i] - lambdas[i - 1]
        d = answers[-1]
        if i > 1:
            r = (lambdas[i - 1] - lambdas[i - 2]) / h
            d = (1 + 1 / (2 * r)) * answers[-1] - 1 / (2 * r) * answers[-2]
        ratio = levels[i].sigma / levels[i - 1].sigma
        expected = ratio * expected - levels[i].alpha * (math.exp(-h) - 1) * d
    torch.testing.assert_close(final(x, dpm_solver(denoise, x, levels)), expected)


def counted(calls: list[Level]) -> Denoise:
    def estimate(x: Tensor, level: Level) -> Tensor:
        calls.append(level)
        return denoise(x, level)

    return estimate


@pytest.mark.parametrize(
    ("name", "calls_a_step"),
    [("euler", 1), ("dpm_solver", 1), ("ancestral", 1), ("sde_dpm_solver", 1), ("ddim 0.5", 1), ("heun", 2)],
)
def test_every_step_can_be_watched_and_costs_what_is_said(name: str, calls_a_step: int) -> None:
    levels, calls = EDM().levels(6), list[Level]()
    x = 80 * normal_from(0)(5, 2)
    states = list(SAMPLERS[name](counted(calls), x, levels))
    assert len(states) == 6 and [state.level for state in states] == levels[1:]
    assert len(calls) == (6 if calls_a_step == 1 else 11), "the last step of Heun's is Euler's"
    assert all(state.x0.shape == x.shape for state in states)
    torch.testing.assert_close(states[-1].x, states[-1].x0)


def test_midpoint_takes_every_second_level_for_a_middle() -> None:
    calls: list[Level] = []
    x = normal_from(0)(5, 2)
    for steps, expected in ((6, [2, 4, 6]), (5, [2, 4, 5])):
        calls.clear()
        levels = FlowMatching().levels(steps)
        states = list(midpoint(counted(calls), x, levels))
        assert [levels.index(state.level) for state in states] == expected and len(calls) == steps


def test_samplers_are_lazy_so_that_a_caller_may_stop_anywhere() -> None:
    calls: list[Level] = []
    states: Iterator[State] = heun(counted(calls), normal_from(0)(1, 2), FlowMatching().levels(100))
    next(states)
    assert len(calls) == 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_can_begin_anywhere_and_where_no_noise_is_left_it_does_nothing(name: str) -> None:
    levels, x0 = FlowMatching().levels(200), MEAN + VARIANCES.sqrt() * normal_from(5)(20_000, 2)
    begun = noised(x0, levels[100], normal_from(0)(*x0.shape))
    assert_is_the_data(final(begun, SAMPLERS[name](denoise, begun, levels[100:])), tolerance=0.02)
    assert final(x0, SAMPLERS[name](denoise, x0, levels[-1:])) is x0


def test_the_same_noise_gives_the_same_bytes() -> None:
    def run(levels: Sequence[Level], seed: int) -> Tensor:
        x = normal_from(0)(5, 2)
        return final(x, ancestral(denoise, x, levels, normal=normal_from(seed)))

    levels = DDPM(timesteps=100).levels(10)
    assert torch.equal(run(levels, 1), run(levels, 1)) and not torch.equal(run(levels, 1), run(levels, 2))

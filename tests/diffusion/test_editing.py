import math
from functools import partial

import pytest
import torch
from torch import Tensor

from simulacra.diffusion import samplers
from simulacra.diffusion.editing import from_strength, image_to_image, inpaint, interpolate, inverted, slerp
from simulacra.diffusion.formulations import DDPM, EDM, FlowMatching, Formulation
from simulacra.diffusion.samplers import final
from simulacra.diffusion.schedules import Level

FORMULATIONS: dict[str, Formulation] = {
    "ddpm": DDPM(timesteps=1000),
    "flow_matching": FlowMatching(),
    "edm": EDM(),
}
MEAN = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.4, 0.1], [0.2, 0.1, 0.3]], dtype=torch.float64)
"""The data are a Gaussian with these moments, so that the best denoiser, and what a fill should be, are known."""
KNOWN = torch.tensor([-0.2], dtype=torch.float64)
"""The last coordinate is known, and the first two are the hole."""
HOLE = torch.tensor([True, True, False])


def normal_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def denoise(x: Tensor, level: Level) -> Tensor:
    """E[x₀ | x] of the Gaussian."""
    total = level.alpha**2 * COVARIANCE + level.sigma**2 * torch.eye(3, dtype=torch.float64)
    gain = level.alpha * torch.linalg.solve(total, COVARIANCE)
    return MEAN + (x - level.alpha * MEAN) @ gain


def conditional() -> tuple[Tensor, Tensor]:
    """Mean and covariance of the hole given what is known, in closed form."""
    across, within = COVARIANCE[:2, 2:], COVARIANCE[2:, 2:]
    gain = across @ torch.linalg.inv(within)
    return MEAN[:2] + gain @ (KNOWN - MEAN[2:]), COVARIANCE[:2, :2] - gain @ across.T


def sampler_of(name: str, seed: int = 2):
    return {
        **samplers.DETERMINISTIC,
        "ancestral": partial(samplers.ancestral, normal=normal_from(seed)),
        "ddim": partial(samplers.ddim, normal=normal_from(seed), eta=0.5),
    }[name]


SAMPLERS = ("ancestral", "ddim", *samplers.DETERMINISTIC)


def filled(name: str, formulation: str, *, steps: int, resamplings: int, jump: int, n: int = 4000) -> Tensor:
    x0 = torch.zeros(n, 3, dtype=torch.float64)
    x0[:, 2] = KNOWN
    states = inpaint(
        denoise,
        x0,
        HOLE.expand(n, 3),
        FORMULATIONS[formulation].levels(steps),
        sampler=sampler_of(name),
        normal=normal_from(0),
        resamplings=resamplings,
        jump=jump,
    )
    return final(x0, states)


def error(x: Tensor) -> float:
    """Largest deviation of the fill's mean and covariance from the closed form."""
    mean, covariance = conditional()
    found = x[:, :2]
    return max(float((found.mean(0) - mean).abs().max()), float((torch.cov(found.T) - covariance).abs().max()))


def test_fills_of_a_gaussian_become_those_of_the_closed_form_as_resamplings_and_steps_grow() -> None:
    errors = [
        error(filled("ancestral", "ddpm", steps=steps, resamplings=turns, jump=10, n=2000))
        for steps, turns in ((20, 1), (40, 4), (100, 8))
    ]
    assert errors[0] > 0.14 and errors[0] > errors[1] > errors[2] and errors[2] < 0.07


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("name", ["ancestral", "dpm_solver"])
def test_resampling_brings_fills_nearer_to_the_closed_form(name: str, formulation: str) -> None:
    once, often = (error(filled(name, formulation, steps=50, resamplings=turns, jump=5, n=1000)) for turns in (1, 6))
    assert often < 0.7 * once


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_known_comes_through_every_sampler_and_formulation(name: str, formulation: str) -> None:
    x = filled(name, formulation, steps=6, resamplings=2, jump=2, n=50)
    torch.testing.assert_close(x[:, 2], KNOWN.expand(50), rtol=0, atol=1e-12)
    assert x[:, :2].std(0).min() > 0.1


def test_each_stretch_is_gone_as_often_as_asked_also_a_short_last_one() -> None:
    levels = FlowMatching().levels(5)
    states = inpaint(
        denoise,
        torch.zeros(1, 3, dtype=torch.float64),
        HOLE[None],
        levels,
        sampler=samplers.euler,
        normal=normal_from(0),
        resamplings=2,
        jump=3,
    )
    assert [levels.index(state.level) for state in states] == [1, 2, 3, 1, 2, 3, 4, 5, 4, 5]


def redrawn(strength: float, formulation: str = "ddpm", n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    x0 = MEAN + torch.linalg.cholesky(COVARIANCE) @ torch.ones(3, dtype=torch.float64) * torch.ones(n, 3)
    levels = FORMULATIONS[formulation].levels(40)
    states = image_to_image(
        denoise, x0, levels, strength=strength, sampler=sampler_of("ancestral"), normal=normal_from(seed)
    )
    return x0, final(x0, states)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_strength_0_is_the_image_itself_and_more_strength_goes_further(formulation: str) -> None:
    x0, same = redrawn(0.0, formulation)
    assert same is x0
    distances = []
    for strength in (0.2, 0.5, 0.8):
        start, end = redrawn(strength, formulation, n=500)
        distances.append(float((start - end).square().mean()))
    assert 0 < distances[0] < distances[1] < distances[2]


def test_strength_1_is_a_sample_that_the_image_has_no_part_in() -> None:
    """Also of EDM, whose noisiest level has all of the image left, if under much noise."""
    levels, ways = EDM().levels(5), []
    for shade in (-1.0, 1.0):
        x0 = torch.full((4, 3), shade, dtype=torch.float64)
        ways.append(image_to_image(denoise, x0, levels, strength=1, sampler=samplers.heun, normal=normal_from(0)))
    sampled = samplers.heun(denoise, 80 * normal_from(0)(4, 3), levels)
    dark, light, sample = (final(torch.zeros(4, 3), states) for states in (*ways, sampled))
    assert torch.equal(dark, light) and torch.equal(dark, sample)


@pytest.mark.parametrize(("strength", "steps"), [(0.0, 0), (0.01, 1), (0.35, 7), (0.5, 10), (1.0, 20)])
def test_a_strength_is_a_share_of_the_steps_rounded_up(strength: float, steps: int) -> None:
    levels = EDM().levels(20)
    left = from_strength(levels, strength)
    assert len(left) == steps + 1 and left[-1] is levels[-1]


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_the_way_to_noise_and_back_returns_to_where_it_began(formulation: str) -> None:
    """And in between is the noise of the closed form: as many deviations off the mean as at the start."""
    levels = FORMULATIONS[formulation].levels(200)[:-1]
    x = (MEAN + normal_from(0)(50, 3) @ torch.linalg.cholesky(COVARIANCE).T) * levels[-1].alpha
    noise = inverted(denoise, x, levels)
    torch.testing.assert_close(final(noise, samplers.heun(denoise, noise, levels)), x, rtol=0, atol=2e-3)
    alpha, sigma = levels[0].alpha, levels[0].sigma

    def standardised(state: Tensor, level: Level) -> Tensor:
        total = level.alpha**2 * COVARIANCE + level.sigma**2 * torch.eye(3, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(total)
        return (state - level.alpha * MEAN) @ vectors / values.sqrt()

    assert alpha < 0.02 * sigma or formulation == "edm"
    lengths = [standardised(state, level).norm(dim=1) for state, level in ((x, levels[-1]), (noise, levels[0]))]
    torch.testing.assert_close(*lengths, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_path_begins_and_ends_at_the_images(formulation: str) -> None:
    starts, ends = (MEAN + normal_from(seed)(6, 3) @ torch.linalg.cholesky(COVARIANCE).T for seed in (1, 2))
    levels = FORMULATIONS[formulation].levels(200)
    path = interpolate(denoise, starts, ends, levels, pictures=5, normal=normal_from(3))
    assert path.shape == (6, 5, 3)
    # What is lost is the little noise that the way begins with: here at most four of its deviations.
    lost = float(4 * levels[-2].sigma / levels[-2].alpha)
    torch.testing.assert_close(path[:, 0], starts, rtol=0, atol=lost)
    torch.testing.assert_close(path[:, -1], ends, rtol=0, atol=lost)


def test_an_arc_keeps_the_distance_and_passes_evenly() -> None:
    a, b = torch.eye(2, dtype=torch.float64).split(1)
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = share * math.pi / 2
        expected = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        torch.testing.assert_close(slerp(a, b, share), expected)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(a, -a, 0.5), 0 * a)

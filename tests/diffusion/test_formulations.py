import itertools
import math

import pytest
import torch
from torch import Tensor

from simulacra.diffusion.formulations import DDPM, EDM, FlowMatching, Formulation, Spacing, couple, min_snr_weight
from simulacra.diffusion.schedules import Level, noised, score_of

FORMULATIONS: dict[str, Formulation] = {
    **{f"ddpm {prediction}": DDPM(timesteps=50, prediction=prediction) for prediction in ("epsilon", "x0", "v")},
    "flow_matching": FlowMatching(),
    "edm": EDM(),
}


@pytest.fixture(params=FORMULATIONS)
def formulation(request: pytest.FixtureRequest) -> Formulation:
    return FORMULATIONS[request.param]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_network_that_answers_the_target_finds_the_image_and_has_no_loss(formulation: Formulation) -> None:
    x0, noise = 0.5 * normal(8, 1, 3, 3), normal(8, 1, 3, 3, seed=1)
    level = formulation.at(formulation.draw_time(uniform(8)))
    target = formulation.target(x0, noise, level.along(x0))
    denoise = formulation.denoise(lambda x, clock: target)
    torch.testing.assert_close(denoise(noised(x0, level, noise), level), x0)
    losses = formulation.losses(lambda x, clock: target, x0, noise=noise, uniform=uniform(8))
    assert losses.shape == (8,) and losses.abs().max() < 1e-20


def test_the_best_network_gives_the_score(formulation: Formulation) -> None:
    """For Gaussian data the expected target is known, and with it what denoiser and score must be."""
    mean, deviation = 0.2, 0.5

    def best(x: Tensor, level: Level) -> Tensor:
        variance = (level.alpha * deviation) ** 2 + level.sigma**2
        x0 = mean + level.alpha * deviation**2 / variance * (x - level.alpha * mean)
        return formulation.target(x0, (x - level.alpha * x0) / level.sigma, level)

    x = normal(6, 2)
    for level in formulation.levels(6)[1:-1]:
        estimate = formulation.denoise(lambda _, clock, level=level: best(x, level))(x, level)
        variance = (level.alpha * deviation) ** 2 + level.sigma**2
        torch.testing.assert_close(score_of(x, estimate, level), (level.alpha * mean - x) / variance)


@pytest.mark.parametrize("spacing", ["time", "karras"])
def test_levels_lead_from_noise_to_none_and_the_clock_stays_in_its_range(
    formulation: Formulation, spacing: Spacing
) -> None:
    levels = formulation.levels(11, spacing)
    assert len(levels) == 12 or (isinstance(formulation, DDPM) and spacing == "karras" and len(levels) > 8)
    snr = [float(level.snr) for level in levels]
    assert snr == sorted(set(snr)) and snr[0] < 1e-3 and snr[-1] == math.inf
    assert all(-1e-6 <= float(formulation.clock(level)) <= 1 + 1e-6 for level in levels[:-1])
    drawn = formulation.clock(formulation.at(formulation.draw_time(torch.linspace(0, 0.9999, 500))))
    assert drawn.min() > -0.2 and drawn.max() < 1.001


@pytest.mark.parametrize("formulation", [DDPM(timesteps=4000), FlowMatching(), EDM(sigma_min=0.01)])
def test_karras_levels_are_even_in_the_seventh_root_of_the_noise(formulation: Formulation) -> None:
    ratios = [float(level.sigma / level.alpha) ** (1 / 7) for level in formulation.levels(20, "karras")[:-1]]
    assert ratios == pytest.approx(torch.linspace(80 ** (1 / 7), 0.01 ** (1 / 7), 20).tolist(), rel=2e-2)


def test_no_more_steps_are_taken_than_ddpm_has_times() -> None:
    assert [int(level.time) for level in DDPM(timesteps=5).levels(50)] == [5, 4, 3, 2, 1, 0]


def test_each_time_of_ddpm_is_trained_at_as_often_as_any_other() -> None:
    times = DDPM(timesteps=4).draw_time(torch.arange(0, 1, 1 / 64))
    assert times.unique(return_counts=True)[1].tolist() == [16] * 4 and times.min() == 1


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_make_every_prediction_the_paper_s_loss_of_x0(prediction: str, gamma: float) -> None:
    """Hang et al. (2023), section 3.4: whatever is predicted, it is min(SNR, γ) ‖x₀ − x̂₀‖²."""
    process = DDPM(timesteps=50, prediction=prediction, min_snr_gamma=gamma)  # type: ignore[arg-type]
    x0, noise, answer = normal(200, 4), normal(200, 4, seed=1), normal(200, 4, seed=2)
    losses = process.losses(lambda x, clock: answer, x0, noise=noise, uniform=uniform(200))
    level = process.at(process.draw_time(uniform(200)))
    estimate = process.denoise(lambda x, clock: answer)(noised(x0, level, noise), level)
    expected = torch.minimum(level.snr, torch.tensor(gamma)) * (x0 - estimate).square().mean(1)
    torch.testing.assert_close(losses, expected)


def test_min_snr_weights_of_known_ratios() -> None:
    snr = torch.tensor([0.5, 5.0, 20.0])
    assert min_snr_weight(snr, "epsilon", 5.0).tolist() == pytest.approx([1, 1, 0.25])
    assert min_snr_weight(snr, "v", 5.0).tolist() == pytest.approx([0.5 / 1.5, 5 / 6, 5 / 21])
    assert min_snr_weight(snr, "x0", 5.0).tolist() == [0.5, 5, 5]


def test_without_min_snr_the_loss_of_epsilon_is_ho_s_simple_one() -> None:
    process, x0, noise = DDPM(prediction="epsilon"), normal(20, 4), normal(20, 4, seed=1)
    losses = process.losses(lambda x, clock: 0.5 * x, x0, noise=noise, uniform=uniform(20))
    x = noised(x0, process.at(process.draw_time(uniform(20))), noise)
    torch.testing.assert_close(losses, (noise - 0.5 * x).square().mean(1))


def test_flow_matching_goes_straight() -> None:
    x0, noise = normal(1, 4), normal(1, 4, seed=1)
    flow = FlowMatching()
    early, late = (flow.at(torch.tensor(time)) for time in (0.25, 0.75))
    travelled = (noised(x0, late, noise) - noised(x0, early, noise)) / 0.5
    torch.testing.assert_close(travelled, flow.target(x0, noise, early))


def test_edm_is_the_paper_s_preconditioning_and_weight() -> None:
    """Table 1: D = c_skip x + c_out F(c_in x), and the loss is λ ‖D − x₀‖² with λ = (σ² + σ_d²) / (σ σ_d)²."""
    edm, sigma_data = EDM(sigma_data=0.5), 0.5
    x0, noise = normal(300, 4), normal(300, 4, seed=1)
    sigma = edm.draw_time(uniform(300))[:, None]
    x, total = x0 + sigma * noise, sigma**2 + sigma_data**2
    answer = (x / total.sqrt()).sin()
    denoised = sigma_data**2 / total * x + sigma * sigma_data / total.sqrt() * answer
    level = edm.at(sigma[:, 0])
    torch.testing.assert_close(edm.denoise(lambda x, clock: x.sin())(x, level), denoised)
    losses = edm.losses(lambda x, clock: x.sin(), x0, noise=noise, uniform=uniform(300))
    weight = (total / (sigma * sigma_data) ** 2)[:, 0]
    torch.testing.assert_close(losses, weight * (denoised - x0).square().mean(1))


def test_edm_s_target_and_input_have_unit_variance_at_every_level() -> None:
    edm, x0, noise = EDM(sigma_data=0.5), 0.5 * normal(50_000, 1), normal(50_000, 1, seed=1)
    for level in edm.levels(5)[:-1]:
        assert float(edm.target(x0, noise, level).std()) == pytest.approx(1, abs=0.02)
        assert float((edm.scale(level) * noised(x0, level, noise)).std()) == pytest.approx(1, abs=0.02)


def test_edm_trains_at_log_normal_levels_and_samples_at_the_paper_s() -> None:
    logs = EDM().draw_time(uniform(50_000)).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.02) and float(logs.std()) == pytest.approx(1.2, abs=0.02)
    sigmas = [float(level.sigma) for level in EDM().levels(18)]
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert sigmas == pytest.approx([*expected, 0.0])


def test_coupling_is_a_permutation_of_least_cost() -> None:
    for seed in range(5):
        x0, noise = normal(6, 3, seed=seed), normal(6, 3, seed=100 + seed)
        found = couple(x0, noise)
        costs = {order: float((x0 - noise[list(order)]).square().sum()) for order in itertools.permutations(range(6))}
        best = min(costs, key=costs.__getitem__)
        assert torch.equal(found, noise[list(best)])
        assert float((x0 - found).square().sum()) == pytest.approx(costs[best])


def test_coupling_keeps_each_class_s_noise() -> None:
    x0, noise, y = normal(40, 1, 2, 2), normal(40, 1, 2, 2, seed=1), torch.arange(40) % 3
    found = couple(x0, noise, y)
    for label in range(3):
        ours, theirs = (set(map(tuple, rows[y == label].flatten(1).tolist())) for rows in (found, noise))
        assert ours == theirs
        torch.testing.assert_close(found[y == label], couple(x0[y == label], noise[y == label]))
    assert (x0 - found).square().sum() < (x0 - noise).square().sum()


def test_float_states_stay_float(formulation: Formulation) -> None:
    x = torch.zeros(2, 3)
    seen: list[torch.dtype] = []

    def network(x: Tensor, clock: Tensor) -> Tensor:
        seen.extend((x.dtype, clock.dtype))
        return x

    assert formulation.denoise(network)(x, formulation.levels(4)[1]).dtype == torch.float32
    losses = formulation.losses(network, x, noise=x, uniform=torch.full((2,), 0.5))
    assert set(seen) == {torch.float32} and losses.dtype == torch.float32

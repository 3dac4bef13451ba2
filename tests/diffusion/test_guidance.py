import pytest
import torch
from torch import Tensor

from simulacra.diffusion.guidance import clipped, guided
from simulacra.diffusion.schedules import Level, epsilon_of

LEVEL = Level(*torch.tensor([0.5, 0.6, 0.8], dtype=torch.float64))
X = torch.linspace(-2, 2, 5, dtype=torch.float64)


def conditional(x: Tensor, level: Level) -> Tensor:
    return x.tanh() + 0.2


def unconditional(x: Tensor, level: Level) -> Tensor:
    return 0.7 * x


def never(x: Tensor, level: Level) -> Tensor:
    raise AssertionError("not needed")


def test_scale_1_is_the_conditional_denoiser_and_0_the_unconditional_one() -> None:
    assert torch.equal(guided(conditional, never, 1.0)(X, LEVEL), conditional(X, LEVEL))
    assert torch.equal(guided(never, unconditional, 0.0)(X, LEVEL), unconditional(X, LEVEL))


@pytest.mark.parametrize("scale", [0.5, 1.5, 4.0])
def test_guidance_is_the_paper_s_in_epsilon_too(scale: float) -> None:
    """ε̃ = (1 + w) ε(x, c) − w ε(x), with scale 1 + w."""
    guess = guided(conditional, unconditional, scale)(X, LEVEL)
    with_class, without = (epsilon_of(X, denoise(X, LEVEL), LEVEL) for denoise in (conditional, unconditional))
    torch.testing.assert_close(epsilon_of(X, guess, LEVEL), scale * with_class - (scale - 1) * without)


def test_where_the_class_says_nothing_guidance_does_nothing() -> None:
    torch.testing.assert_close(guided(conditional, conditional, 7.0)(X, LEVEL), conditional(X, LEVEL))


def test_clipped_estimates_lie_where_pixels_do() -> None:
    found = clipped(unconditional)(X, LEVEL)
    assert found.tolist() == pytest.approx([-1, -0.7, 0, 0.7, 1])

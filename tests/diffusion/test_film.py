import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulacra.diffusion.film import Film
from simulacra.diffusion.formulations import DDPM, EDM, FlowMatching
from simulacra.diffusion.samplers import euler, final, midpoint
from simulacra.diffusion.schedules import Level


def denoise(x: Tensor, level: Level) -> Tensor:
    """What a perfect network answers where all images are the same grey."""
    return torch.full_like(x, 0.5)


def pixels(x: Tensor) -> NDArray[np.uint8]:
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def filmed(levels: list[Level], **size: int) -> tuple[Film, Tensor, Tensor]:
    """A film of Euler's way along these levels, the noise and the image."""
    film = Film(**size)
    x = levels[0].sigma * torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    states = euler(denoise, x, levels)
    return film, x, final(x, film.watch(x, levels[0], states, n_steps=len(levels) - 1, picture=pixels))


@pytest.mark.parametrize("process", [DDPM(timesteps=1000), FlowMatching(), EDM()], ids=lambda each: type(each).__name__)
def test_a_film_begins_with_noise_and_ends_with_the_image(process: DDPM | FlowMatching | EDM) -> None:
    film, noise, image = filmed(process.levels(25), rows=3, columns=6)
    assert film.steps == [0, 5, 10, 15, 20, 25]
    assert len(film.states) == len(film.estimates) == 6 and film.states[0].shape == (3, 1, 3, 3)
    assert (film.states[-1] == pixels(image[:3])).all() and (film.estimates[-1] == film.states[-1]).all()
    # Whatever the process calls noise is shown with unit variance: that of EDM would be black or white all over.
    level = process.levels(25)[0]
    unit = noise[:3] / (level.alpha.square() + level.sigma.square()).sqrt()
    assert (film.states[0] == pixels(unit)).all()
    assert all((estimate == pixels(torch.tensor(0.5))).all() for estimate in film.estimates[:-1])


def test_an_estimate_belongs_to_the_state_above_it() -> None:
    film = Film(columns=99)
    levels, x = FlowMatching().levels(4), torch.ones(1, 1, 1, 1)
    seen: list[Tensor] = []

    def remembering(x: Tensor, level: Level) -> Tensor:
        seen.append(x / (level.alpha.square() + level.sigma.square()).sqrt())
        return 0.1 * x

    states = euler(remembering, x, levels)
    final(x, film.watch(x, levels[0], states, n_steps=4, picture=lambda x: x.numpy()))
    assert film.steps == [0, 1, 2, 3, 4]
    for state, looked_at in zip(film.states[:-1], seen, strict=True):
        np.testing.assert_allclose(state, looked_at.numpy())


def test_few_steps_and_few_images_make_a_short_film() -> None:
    film, _, _ = filmed(FlowMatching().levels(2), rows=99, columns=10)
    assert film.steps == [0, 1, 2] and len(film.states[0]) == 4


def test_the_states_pass_unchanged() -> None:
    levels, x = FlowMatching().levels(7), torch.ones(2, 1, 2, 2)
    plain = [state.x for state in midpoint(denoise, x, levels)]
    watched = Film(columns=3).watch(x, levels[0], midpoint(denoise, x, levels), n_steps=4, picture=pixels)
    for state, expected in zip(watched, plain, strict=True):
        assert torch.equal(state.x, expected)

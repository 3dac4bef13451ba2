from typing import Any

import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.editing.editor import Editor
from simulacra.errors import SimulacraError
from simulacra.models.diffusion import Diffusion, DiffusionConfig
from simulacra.training.config import TrainingConfig

EDITED = fabricate_images(n=40, size=8, channels=1, n_classes=3, seed=0)
HOLE = np.zeros((8, 8), bool)
HOLE[2:6, 1:5] = True


def editor(**options: Any) -> Editor:
    model = Diffusion(
        DiffusionConfig(width=8, sampler_steps=4, timesteps=50, autoencoder_steps=2, mlp_width=16, **options)
    )
    model.fit(EDITED, training=TrainingConfig(steps=2, batch_size=16))
    return Editor(model)


@pytest.mark.parametrize("formulation", ["ddpm", "flow_matching", "edm"])
def test_inpainting_leaves_known_pixels_untouched_whatever_the_sampler(formulation: str) -> None:
    editing = editor(formulation=formulation)
    model = editing.model
    for sampler in ("ancestral", "ddim", "euler", "heun", "midpoint", "dpm_solver"):
        model.config = model.config.model_copy(update={"sampler": sampler})
        options: dict[str, Any] = {"resamplings": 2, "jump": 2}
        fills = [editing.inpaint(EDITED.images, HOLE, seed=seed, **options).images for seed in (0, 0, 1)]
        assert all(np.array_equal(fill[:, :, ~HOLE], EDITED.images[:, :, ~HOLE]) for fill in fills)
        assert np.array_equal(fills[0], fills[1]) and not np.array_equal(fills[0], fills[2])


def test_a_fill_does_not_look_into_the_hole() -> None:
    editing, other = editor(), EDITED.images.copy()
    other[:, :, HOLE] = 255 - other[:, :, HOLE]
    first, second = (editing.inpaint(images, HOLE, seed=0).images for images in (EDITED.images, other))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_strength_0_is_the_image_and_strength_1_forgets_it(space: str) -> None:
    editing = editor(space=space)
    same = editing.image_to_image(EDITED.images, strength=0, condition=EDITED.labels, seed=0)
    assert np.array_equal(same.images, EDITED.images) and np.array_equal(same.labels, EDITED.labels)
    new, other = (
        editing.image_to_image(images, strength=1, seed=0).images for images in (EDITED.images, 255 - EDITED.images)
    )
    assert np.array_equal(new, other) or space == "latent"
    with pytest.raises(SimulacraError, match=r"strength must lie between 0 and 1, got 1.5"):
        editing.image_to_image(EDITED.images, strength=1.5, seed=0)


def test_from_pure_noise_an_image_is_a_sample() -> None:
    editing = editor()
    sampled = editing.model.sample(40, condition=EDITED.labels, seed=3)
    redrawn = editing.image_to_image(EDITED.images, strength=1, condition=EDITED.labels, seed=3)
    assert redrawn.fingerprint() == sampled.fingerprint()


def test_a_path_has_so_many_pictures_a_pair() -> None:
    editing = editor()
    path = editing.interpolate(EDITED.images[:3], EDITED.images[3:6], pictures=4, condition=0, seed=0)
    assert path.images.shape == (12, 1, 8, 8) and set(path.labels.tolist()) == {0}
    assert len(editing.interpolate(EDITED.images[:0], EDITED.images[:0], pictures=4, seed=0)) == 0


def test_edits_that_a_model_cannot_make_are_refused() -> None:
    with pytest.raises(SimulacraError, match="inpainting needs pixels, and this diffusion is of codes"):
        editor(space="latent").inpaint(EDITED.images, HOLE, seed=0)
    with pytest.raises(SimulacraError, match="cannot do without: say the class"):
        editor(unconditional_share=0.0).inpaint(EDITED.images, HOLE, seed=0)
    with pytest.raises(SimulacraError, match="fitted without classes and cannot sample 'bar'"):
        editor(conditional=False).image_to_image(EDITED.images, strength=0.5, condition="bar", seed=0)

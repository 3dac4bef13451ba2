from typing import Any

import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.editing.config import EditingConfig
from simulacra.editing.editor import Editor
from simulacra.editing.pictures import read_pictures
from simulacra.editing.tour import Bench, edit
from simulacra.errors import SimulacraError
from simulacra.models.diffusion import Diffusion, DiffusionConfig
from simulacra.training.config import TrainingConfig

DATA = fabricate_images(n=60, size=8, channels=1, n_classes=3, seed=0)
CONFIG = EditingConfig(examples=3, n_images=20, pairs=2, pictures=3, strength=(0.0, 0.5, 1.0), jump=2)


class Judge:
    """A classifier that knows these images by their pixels, and takes all others for the first class."""

    name, sha256 = "judge", "0"

    def features(self, images: Any) -> Any:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        return {}

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        known = {image.tobytes(): label for image, label in zip(DATA.images, DATA.labels, strict=True)}
        return np.eye(3)[[known.get(image.tobytes(), 0) for image in images]]


def fitted(data: ImageSet = DATA, **options: Any) -> Diffusion:
    model = Diffusion(DiffusionConfig(width=8, sampler_steps=4, timesteps=50, autoencoder_steps=2, **options))
    model.fit(data, training=TrainingConfig(steps=3, batch_size=16))
    return model


def bench(data: ImageSet = DATA, config: EditingConfig = CONFIG) -> Bench:
    pictures = read_pictures(config, data)
    mean = data.images.mean(0).astype(np.uint8)
    judge = None if data.labels is None else Judge()
    return Bench(pictures.images, pictures.names, pictures.mask, data, mean, judge)


def test_all_edits_are_shown_and_measured() -> None:
    found = edit(Editor(fitted()), bench(), CONFIG, seed=0)
    assert [panel.figure for panel in found.panels] == ["inpainting", "image_to_image", "noise_interpolation"]
    assert found.omitted == {}
    metrics = found.metrics
    assert metrics["untouched_accuracy"] == 1 and metrics["fill_changed_outside"] == 0 and metrics["fill_images"] == 60
    assert metrics["mean_fill_accuracy"] == pytest.approx((DATA.labels == 0).mean())
    assert metrics["fill_low"] <= metrics["fill_accuracy"] <= metrics["fill_high"]
    assert metrics["redrawn_distance.0"] == 0 < metrics["redrawn_distance.1"]
    assert "Of 60 test images" in found.sentence and "without the model being told it; told the class" in found.sentence
    fills = found.panels[0]
    assert fills.columns == ("image", "hole", "fill 1", "fill 2", "fill 3", "class told", "mean")
    assert fills.images.shape == (3, 7, 1, 8, 8) and not np.array_equal(fills.images[:, 2], fills.images[:, 3])
    assert np.array_equal(found.panels[1].images[:, 0], found.panels[1].images[:, 1]), "strength 0 is the image"


@pytest.mark.parametrize(
    ("data", "options", "omitted"),
    [
        (ImageSet(DATA.images), {}, {"accuracy of fills"}),
        (DATA, {"conditional": False}, set()),
        (DATA, {"space": "latent"}, {"inpainting"}),
        (DATA, {"unconditional_share": 0.0}, {"inpainting", "interpolation"}),
    ],
)
def test_what_a_model_cannot_do_is_left_out_with_the_reason(data: ImageSet, options: dict, omitted: set) -> None:
    found = edit(Editor(fitted(data, **options)), bench(data), CONFIG, seed=0)
    assert set(found.omitted) == omitted
    assert len(found.panels) == 3 - len(omitted - {"accuracy of fills"})
    assert all("class told" not in panel.columns for panel in found.panels)


def test_one_picture_has_no_path_to_another() -> None:
    config = CONFIG.model_copy(update={"examples": 1})
    assert set(edit(Editor(fitted()), bench(config=config), config, seed=0).omitted) == {"interpolation"}


def test_a_fill_that_changed_what_it_must_not_is_no_result() -> None:
    class Careless(Editor):
        def inpaint(self, images: Any, *given: Any, **options: Any) -> ImageSet:
            return ImageSet(255 - images)

    with pytest.raises(SimulacraError, match="pixels outside the hole"):
        edit(Careless(fitted()), bench(), CONFIG, seed=0)

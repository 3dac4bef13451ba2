import math
import time

import numpy as np
import pytest

from simulacra.data.fabricate import NOISE, SHAPES, fabricate_images
from simulacra.errors import SimulacraError


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_dtype_and_balance(channels: int) -> None:
    made = fabricate_images(50, size=12, channels=channels, n_classes=4, seed=1)
    assert made.images.shape == (50, channels, 12, 12)
    assert made.images.dtype == np.uint8
    assert sorted(np.bincount(made.labels)) == [12, 12, 13, 13]
    assert made.class_names == ("bar", "disc", "cross", "ring")


def test_same_seed_same_bytes_other_seed_others() -> None:
    first, again, other = (fabricate_images(40, seed=seed) for seed in (7, 7, 8))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_without_labels_pixels_stay() -> None:
    bare = fabricate_images(40, labelled=False)
    assert (bare.labels, bare.class_names) == (None, ())
    assert np.array_equal(bare.images, fabricate_images(40).images)


def test_no_two_images_are_identical() -> None:
    made = fabricate_images(2000, size=8, n_classes=6)
    assert len({image.tobytes() for image in made.images}) == 2000


@pytest.mark.parametrize("channels", [1, 3])
def test_classes_can_be_learned(channels: int) -> None:
    from sklearn.linear_model import LogisticRegression

    train, test = (fabricate_images(900, channels=channels, n_classes=6, seed=seed) for seed in (0, 1))
    model = LogisticRegression(max_iter=200).fit(train.images.reshape(900, -1) / 255.0, train.labels)
    assert model.score(test.images.reshape(900, -1) / 255.0, test.labels) > 0.9


def test_mean_brightness_is_that_of_the_shapes_areas() -> None:
    # Over radius ~ U(0.5, 0.7), width ~ U(0.12, 0.2), as shares of the image's area, 4 in these units.
    radius_squared, width_squared = 0.6**2 + 0.2**2 / 12, 0.16**2 + 0.08**2 / 12
    bar = 4 * 0.6 * 0.16 / 4
    cross = 2 * bar - 4 * width_squared / 4
    areas = {"bar": bar, "disc": math.pi * radius_squared / 4, "cross": cross, "dash": bar, "saltire": cross}
    made = fabricate_images(3000, size=32, n_classes=len(SHAPES), seed=3)
    for name, area in areas.items():
        images = made.images[made.labels == made.class_names.index(name)]
        # Noise clipped at black has mean sigma / sqrt(2 pi); ink is 202.5 on average.
        expected = 202.5 * area + (1 - area) * NOISE / math.sqrt(2 * math.pi)
        assert images.mean() == pytest.approx(expected, rel=0.05)


def test_is_quick() -> None:
    start = time.perf_counter()
    fabricate_images(5000, size=28)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("n_classes", [0, len(SHAPES) + 1])
def test_number_of_classes_is_bounded(n_classes: int) -> None:
    with pytest.raises(SimulacraError, match=f"n_classes = {n_classes}"):
        fabricate_images(10, n_classes=n_classes)

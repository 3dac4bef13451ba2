import numpy as np
import pytest

from simulacra.data.image_set import ImageSet
from simulacra.metrics.corruptions import CORRUPTIONS, responses, rises


@pytest.fixture
def images() -> ImageSet:
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 10
    pixels = generator.integers(0, 20, (200, 1, 12, 12)) + 20 * labels[:, None, None, None]
    return ImageSet(pixels.astype(np.uint8), labels, tuple(map(str, range(10))))


def worse(images: ImageSet, name: str, level: float) -> np.ndarray:
    return CORRUPTIONS[name].apply(images, level, np.random.default_rng(1))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_as_many_images_of_the_same_kind_and_the_given_ones_as_they_were(images, name):
    before = images.images.copy()
    for level in CORRUPTIONS[name].levels:
        found = worse(images, name, level)
        assert found.dtype == np.uint8 and found.shape == before.shape
    np.testing.assert_array_equal(images.images, before)


def test_noise_has_the_deviation_that_is_asked_for():
    grey = ImageSet(np.full((50, 1, 16, 16), 128, np.uint8))
    assert worse(grey, "noise", 16).std() == pytest.approx(16, rel=0.03)


def test_blur_spreads_a_point_as_a_gaussian_does():
    point = np.zeros((1, 1, 21, 21), np.uint8)
    point[0, 0, 10, 10] = 255
    found = worse(ImageSet(point), "blur", 1)[0, 0].astype(float)
    offsets = np.arange(-10, 11)
    assert np.sqrt((found.sum(axis=1) * offsets**2).sum() / found.sum()) == pytest.approx(1, rel=0.1)


def test_classes_go_missing_from_the_last(images):
    levels = worse(images, "missing_classes", 0.3).mean(axis=(1, 2, 3)) // 20
    assert set(levels) == set(range(7))
    np.testing.assert_array_equal(
        worse(images, "missing_classes", 0.3)[images.labels < 7], images.images[images.labels < 7]
    )


@pytest.mark.parametrize(("name", "share", "distinct"), [("repeats", 0.75, 50), ("collapse", 0.75, 51)])
def test_copies_take_a_share(images, name, share, distinct):
    assert len(np.unique(worse(images, name, share), axis=0)) == pytest.approx(distinct, abs=3)


def test_responses_begin_with_the_images_as_they_are_and_leave_out_what_needs_classes(images):
    found = responses(lambda pixels: float(pixels.std()), ImageSet(images.images), seed=0)
    assert set(found) == set(CORRUPTIONS) - {"missing_classes"}
    assert all(curve[0] == (0.0, float(images.images.std())) for curve in found.values())
    assert [level for level, _ in found["blur"]] == [0, 0.5, 1, 1.5, 2, 3]
    assert rises(found["noise"])


def test_few_classes_have_few_levels_and_one_is_left():
    labels = np.arange(30) % 3
    few = ImageSet(np.repeat(labels, 16).reshape(30, 1, 4, 4).astype(np.uint8), labels, ("a", "b", "c"))
    found = responses(lambda pixels: float(len(np.unique(pixels))), few, seed=0)["missing_classes"]
    assert found == [(0.0, 3.0), (1 / 3, 2.0), (2 / 3, 1.0)]
    one = ImageSet(few.images, np.zeros(30, np.int64), ("a",))
    assert "missing_classes" not in responses(lambda pixels: 0.0, one, seed=0)

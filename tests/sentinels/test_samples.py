import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.sentinels.samples import SampleWatch

DATA = fabricate_images(n=900, size=12, channels=1, n_classes=5, seed=0)
FRESH = fabricate_images(n=200, size=12, channels=1, n_classes=5, seed=1)
WITHOUT_CLASSES = ImageSet(DATA.images)


@pytest.mark.parametrize("data", [DATA, WITHOUT_CLASSES])
def test_other_real_images_look_real(data: ImageSet) -> None:
    seen = SampleWatch(data, n=150).look(FRESH)
    assert seen["near_duplicates"] < 0.1
    assert 0.8 < seen["relative_coverage"] < 1.25
    assert 0.9 < seen["relative_kinds"] < 1.1


@pytest.mark.parametrize("data", [DATA, WITHOUT_CLASSES])
def test_copies_of_one_image_are_duplicates_of_one_kind(data: ImageSet) -> None:
    seen = SampleWatch(data, n=150).look(DATA.take([3] * 150))
    assert seen["near_duplicates"] == 1
    assert seen["relative_coverage"] < 0.2
    assert seen["relative_kinds"] < 0.4


def test_one_class_of_many_is_told_by_its_kinds_though_its_images_differ() -> None:
    assert DATA.labels is not None
    seen = SampleWatch(DATA, n=150).look(DATA.take(np.flatnonzero(DATA.labels == 2)[:150]))
    assert seen["relative_kinds"] < 0.4 and seen["near_duplicates"] < 0.1


def test_noise_covers_nothing() -> None:
    noise = ImageSet(np.random.default_rng(0).integers(0, 256, (150, 1, 12, 12), np.uint8))
    assert SampleWatch(DATA, n=150).look(noise)["relative_coverage"] < 0.1


def test_little_data_is_enough() -> None:
    watch = SampleWatch(DATA.take(range(8)), n=100)
    assert set(watch.look(FRESH)) == {"near_duplicates", "relative_coverage", "relative_kinds"}

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


@pytest.mark.parametrize("n_classes", [1, 2])
def test_of_one_or_two_classes_kinds_are_told_apart_too(n_classes: int) -> None:
    data = fabricate_images(n=600, size=12, channels=1, n_classes=n_classes, seed=0)
    watch = SampleWatch(data, n=100)
    assert data.labels is not None
    assert watch.look(data.take(np.flatnonzero(data.labels == 0)[:100]))["relative_kinds"] == pytest.approx(
        1.0 if n_classes == 1 else 0.0, abs=0.2
    )
    assert watch.look(data.take([3] * 100))["relative_kinds"] == 0
    assert 0.8 < watch.look(data.take(range(300, 400)))["relative_kinds"] < 1.2


def test_few_samples_are_compared_with_as_few_real_images() -> None:
    watch, rng = SampleWatch(DATA, n=20), np.random.default_rng(0)
    seen = [watch.look(FRESH.take(rng.permutation(200)[:20]))["relative_kinds"] for _ in range(20)]
    assert 0.85 < np.mean(seen) < 1.15


def test_a_class_beside_which_others_are_rare_is_split_into_clusters() -> None:
    assert DATA.labels is not None
    rare = np.flatnonzero(DATA.labels == 1)[:3]
    data = DATA.take(np.concatenate([np.flatnonzero(DATA.labels == 0), rare]))
    watch = SampleWatch(data, n=60)
    assert 0.7 < watch.look(data.take(range(60, 120)))["relative_kinds"] < 1.3, "without any of the rare ones"

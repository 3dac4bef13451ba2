import json
from itertools import chain

import numpy as np
import pytest
from pydantic import ValidationError

from simulacra.data.config import SplitConfig
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.data.split import MIN_PER_CLASS, Split, class_counts, stratified_split
from simulacra.errors import SimulacraError

PARTS = ("train", "validation", "test")


def numbered(labels: list[int] | None, n: int) -> ImageSet:
    """Images that carry their row number, and their label, in their pixels."""
    images = np.zeros((n, 1, 2, 2), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    if labels is None:
        return ImageSet(images)
    images[:, 0, 1, 0] = labels
    return ImageSet(images, np.array(labels), tuple(f"class{label}" for label in range(max(labels) + 1)))


def rows(part: ImageSet) -> list[int]:
    return [int(image[0, 0, 0]) * 256 + int(image[0, 0, 1]) for image in part.images]


def pixels(part: ImageSet) -> set[bytes]:
    return {image.tobytes() for image in part.images}


def all_rows(split: Split) -> list[list[int]]:
    return [rows(getattr(split, name)) for name in PARTS]


@pytest.mark.parametrize("labelled", [True, False])
def test_splits_are_disjoint_exhaustive_and_shuffled(labelled: bool) -> None:
    data = numbered([row % 3 for row in range(600)] if labelled else None, 600)
    split = stratified_split(data, SplitConfig())
    parts = all_rows(split)
    assert sorted(chain(*parts)) == list(range(600))
    assert [len(part) for part in parts] == [360, 120, 120]
    assert all(part != sorted(part) for part in parts)
    assert split.duplicates_dropped == 0


def test_labels_travel_with_their_images() -> None:
    data = numbered([row % 5 for row in range(200)], 200)
    split = stratified_split(data, SplitConfig(seed=4))
    for name in PARTS:
        part = getattr(split, name)
        assert np.array_equal(part.images[:, 0, 1, 0], part.labels)
        assert part.class_names == data.class_names


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.02, 0.49, 0.49), (0.98, 0.01, 0.01)])
def test_every_class_gets_its_share_within_one(shares: tuple[float, float, float]) -> None:
    sizes = [*range(MIN_PER_CLASS, 30), 101, 250]
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    config = SplitConfig(train=shares[0], validation=shares[1], test=shares[2])
    split = stratified_split(numbered(labels, len(labels)), config)
    counts = np.array([[class_counts(getattr(split, name))[f"class{c}"] for name in PARTS] for c in range(len(sizes))])
    wanted = np.outer(sizes, shares)
    assert np.array_equal(counts.sum(1), sizes)
    assert counts.min() == 1
    roomy = wanted.min(1) >= 1  # below one row wanted, the row that each split is owed comes first
    assert np.abs(counts - wanted)[roomy].max() < 1
    assert np.abs(counts - wanted).max() < 2


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    data = numbered([row % 4 for row in range(400)], 400)
    first, again, other = (stratified_split(data, SplitConfig(seed=seed)) for seed in (5, 5, 6))
    assert all_rows(first) == all_rows(again)
    for mine, theirs in zip(all_rows(first), all_rows(other), strict=True):
        assert set(mine) != set(theirs)


@pytest.mark.parametrize("labelled", [True, False])
def test_no_identical_image_lies_in_two_splits(labelled: bool) -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 90, 300)  # some 300 draws of 90 distinct images, over both classes
    images = np.repeat(source.astype(np.uint8), 4).reshape(300, 1, 2, 2)
    data = ImageSet(images, rng.integers(0, 2, 300), ("a", "b")) if labelled else ImageSet(images)
    split = stratified_split(data, SplitConfig())
    train, validation, test = (pixels(getattr(split, name)) for name in PARTS)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert train | validation | test == pixels(data)
    assert len(split.test) == pytest.approx(60, abs=1)
    assert split.duplicates_dropped == 300 - sum(len(getattr(split, name)) for name in PARTS) > 0


def test_duplicates_within_train_stay() -> None:
    images = np.arange(100, dtype=np.uint8).repeat(4).reshape(100, 1, 2, 2)
    unique = stratified_split(ImageSet(images), SplitConfig())
    first, second = sorted(int(image.flat[0]) for image in unique.train.images)[:2]
    images[second] = images[first]
    split = stratified_split(ImageSet(images), SplitConfig())
    assert split.duplicates_dropped == 0
    assert sum(int(image.flat[0]) == first for image in split.train.images) == 2


@pytest.mark.parametrize("size", [0, 1, 2])
def test_class_too_small_is_named_with_its_count(size: int) -> None:
    labels = np.array([0] * 10 + [1] * size, np.int64)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    with pytest.raises(SimulacraError, match=rf"'tiny' has {size} images.*3 at least"):
        stratified_split(ImageSet(images, labels, ("big", "tiny")), SplitConfig())


def test_dataset_without_classes_too_small_is_refused() -> None:
    with pytest.raises(SimulacraError, match="dataset has 2 images"):
        stratified_split(numbered(None, 2), SplitConfig())


@pytest.mark.parametrize("labelled", [True, False])
def test_class_of_one_image_many_times_over_is_refused(labelled: bool) -> None:
    images = np.zeros((20, 1, 2, 2), np.uint8)
    data = ImageSet(images, np.zeros(20, np.int64), ("same",)) if labelled else ImageSet(images)
    whose = "class 'same'" if labelled else "the dataset"
    with pytest.raises(SimulacraError, match=f"{whose} has no image left in the train split.*duplicates"):
        stratified_split(data, SplitConfig())


def test_record_is_json_and_tells_the_splits_apart() -> None:
    split = stratified_split(numbered([row % 2 for row in range(100)], 100), SplitConfig(seed=3))
    record = json.loads(json.dumps(split.record()))
    assert record["seed"] == 3
    assert record["shares"] == {"train": 0.6, "validation": 0.2, "test": 0.2}
    assert record["duplicates_dropped"] == 0
    assert {name: part["n"] for name, part in record["splits"].items()} == {"train": 60, "validation": 20, "test": 20}
    assert record["splits"]["test"]["per_class"] == {"class0": 10, "class1": 10}
    assert record["splits"]["test"]["fingerprint"] == split.test.fingerprint()
    assert len({part["fingerprint"] for part in record["splits"].values()}) == 3


def test_record_without_classes_has_no_counts_per_class() -> None:
    record = stratified_split(numbered(None, 30), SplitConfig()).record()
    assert [part["per_class"] for part in record["splits"].values()] == [None] * 3


@pytest.mark.parametrize(
    "bad",
    [
        {"train": 0.7},
        {"train": 0.8, "validation": 0.2, "test": 0.0},
        {"train": 1.2, "validation": -0.1, "test": -0.1},
        {"train": float("nan")},
        {"seed": -1},
        {"training": 0.6},
    ],
)
def test_bad_configurations_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SplitConfig(**bad)


CONTENT = SplitConfig(by="content")


def keys(part: ImageSet) -> list[bytes]:
    return [image.tobytes() for image in part.images]


def test_dealt_by_content_an_image_stays_where_it_is_when_others_come() -> None:
    everything = fabricate_images(n=600, size=8, channels=1, n_classes=3, seed=3)
    rng = np.random.default_rng(0)
    before = stratified_split(everything.take(range(400)), CONTENT)
    after = stratified_split(everything.take(rng.permutation(600)), CONTENT)
    for name in ("train", "validation", "test"):
        old, new = keys(getattr(before, name)), keys(getattr(after, name))
        assert set(old) <= set(new)
        # Their order stays too, so that the first test images are mostly the same ones.
        assert [key for key in new if key in set(old)] == old
    assert before.record()["by"] == "content" and after.duplicates_dropped == 0


def test_dealt_by_content_shares_are_met_on_average_and_the_seed_decides() -> None:
    data = fabricate_images(n=3000, size=8, channels=1, n_classes=3, seed=4)
    split = stratified_split(data, CONTENT)
    counts = np.array([len(split.train), len(split.validation), len(split.test)])
    # Three thousand draws: the standard deviation of each share is below 0.009.
    assert counts.sum() + split.duplicates_dropped == 3000
    np.testing.assert_allclose(counts / 3000, CONTENT.shares, atol=0.03)
    assert keys(stratified_split(data, CONTENT.model_copy(update={"seed": 1})).test) != keys(split.test)


def test_dealt_by_content_doubles_lie_in_one_part_whatever_their_label() -> None:
    data = fabricate_images(n=200, size=8, channels=1, n_classes=2, seed=5)
    assert data.labels is not None
    doubled = ImageSet(
        np.concatenate([data.images] * 2), np.concatenate([data.labels, 1 - data.labels]), data.class_names
    )
    split = stratified_split(doubled, CONTENT)
    assert split.duplicates_dropped == 0 and len(split.train) % 2 == len(split.test) % 2 == 0


def test_dealt_by_content_a_class_that_a_part_lacks_is_refused() -> None:
    data = fabricate_images(n=200, size=8, channels=1, n_classes=2, seed=5)
    assert data.labels is not None
    few = data.take(np.concatenate([np.flatnonzero(data.labels == 0), np.flatnonzero(data.labels == 1)[:3]]))
    with pytest.raises(SimulacraError, match=r"has no image in the \w+ split when content deals them: add images"):
        for seed in range(20):  # three images meet in three parts now and then
            stratified_split(few, CONTENT.model_copy(update={"seed": seed}))

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.retraining.facts import gather, pixel_features, refuse_leak, rows_of, settings_sha256
from simulacra.training.config import TrainingConfig

DATA = fabricate_images(n=900, size=12, channels=1, n_classes=3, seed=0)
SPLITS = {
    name: DATA.take(range(start, stop))
    for name, start, stop in (("train", 0, 360), ("validation", 360, 480), ("test", 480, 600))
}
FRESH = DATA.take(range(600, 900))
FAMILIES = ("gmm", "vae")


def champion() -> GaussianMixture:
    model = GaussianMixture(GMMConfig(pca_dim=8, components=[1]))
    model.fit(SPLITS["train"], training=TrainingConfig(), seed=0)
    return model


RECORD = {
    "rows": {name: rows_of(part) for name, part in SPLITS.items()},
    "settings_sha256": "same",
    "promoted_at": (datetime.now(UTC) - timedelta(days=3)).isoformat(),
}


def together(first: ImageSet, second: ImageSet) -> ImageSet:
    assert first.labels is not None and second.labels is not None
    return ImageSet(
        np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels]), first.class_names
    )


def test_an_image_is_known_again_whatever_its_label() -> None:
    images = DATA.images[:5]
    assert rows_of(ImageSet(images)) == rows_of(DATA.take(range(5))) and len(set(rows_of(DATA))) == 900


def test_settings_differ_by_all_but_what_is_drawn() -> None:
    first = settings_sha256({"model": {"beta": 1}, "sampling": {"n": 5}})
    assert (
        first
        == settings_sha256({"sampling": {"n": 8}, "model": {"beta": 1}})
        != settings_sha256({"model": {"beta": 2}})
    )


def test_averaged_pixels_by_hand() -> None:
    image = np.zeros((1, 1, 16, 16), np.uint8)
    image[0, 0, :2, :2] = 255
    features = pixel_features(image)
    assert features.shape == (1, 64) and features[0, 0] == 1 and features[0, 1:].sum() == 0


def test_a_champion_that_saw_test_images_is_not_judged_by_them() -> None:
    refuse_leak(RECORD["rows"], SPLITS["test"])
    refuse_leak(RECORD["rows"], FRESH)
    with pytest.raises(
        SimulacraError, match=r"trained on 10 of today's 310 test images.*split\.by to content, by which each image"
    ):
        refuse_leak(RECORD["rows"], together(FRESH, SPLITS["validation"].take(range(10))))


def test_without_a_champion_nothing_is_known() -> None:
    facts, found = gather("toy", FAMILIES, None, {}, None, SPLITS, "", 0)
    assert facts.champion is None and facts.new_share is None and found == {}


def test_the_same_images_are_no_news_in_whatever_order() -> None:
    shuffled = {name: part.take(np.random.default_rng(0).permutation(len(part))) for name, part in SPLITS.items()}
    # Asked now and not when this file was read: in a whole suite a quarter of an hour may lie between.
    record = RECORD | {"promoted_at": (datetime.now(UTC) - timedelta(days=3)).isoformat()}
    facts, found = gather("toy", FAMILIES, "gmm", record, champion(), shuffled, "same", 0)
    assert facts.unchanged and facts.new_share == 0 and facts.drift is facts.decay is None
    assert found == {"fresh": 0, "known": 600, "settings_changed": False}
    assert facts.age_days == pytest.approx(3, abs=0.01)
    other, _ = gather("toy", FAMILIES, "gmm", RECORD, champion(), SPLITS, "other", 0)
    assert not other.unchanged


def test_fresh_images_of_the_same_kind_have_not_drifted_and_turned_ones_have() -> None:
    turned = ImageSet(np.ascontiguousarray(np.rot90(255 - FRESH.images, axes=(2, 3))), FRESH.labels, FRESH.class_names)
    told = {}
    for name, fresh in (("alike", FRESH), ("turned", turned)):
        splits = SPLITS | {"train": together(SPLITS["train"], fresh)}
        told[name], found = gather("toy", FAMILIES, "gmm", RECORD, champion(), splits, "same", 0)
        assert found["fresh"] == 300 and found["known"] == 600
    for facts in told.values():
        assert facts.new_share == pytest.approx(300 / 660) and not facts.unchanged
        assert facts.drift is not None and facts.decay is not None
    assert told["alike"].drift.p > 0.01 > told["turned"].drift.p
    assert told["turned"].decay.loss > 10 * abs(told["alike"].decay.loss)

import numpy as np
import pytest

from simulacra.augmentation.accuracy_score import AccuracyScore
from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.training.config import TrainingConfig

TRAINING = TrainingConfig(steps=60, batch_size=64, learning_rate=5e-3)
SCORE = AccuracyScore(ClassifierConfig(width=8, shift=0, training=TRAINING))
REAL = fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=1)


def test_of_other_real_images_the_score_is_high_and_of_shifted_labels_low() -> None:
    like_real = fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=0)
    assert like_real.labels is not None
    mixed_up = ImageSet(like_real.images, (like_real.labels + 1) % 3, like_real.class_names)
    assert SCORE(like_real, REAL, 0) > 0.9
    assert SCORE(mixed_up, REAL, 0) < 0.1


def test_a_class_that_is_never_drawn_is_never_found() -> None:
    some = fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=0)
    assert some.labels is not None and REAL.labels is not None
    score = SCORE(some.take(np.flatnonzero(some.labels < 2)), REAL, 0)
    assert score == pytest.approx((REAL.labels < 2).mean(), abs=0.05)


def test_the_seed_decides_and_fewer_images_than_a_batch_will_do() -> None:
    few = fabricate_images(n=30, size=10, channels=1, n_classes=3, seed=0)
    assert SCORE(few, REAL, 3) == SCORE(few, REAL, 3)
    assert SCORE.describe()["steps"] == 60 and SCORE.describe()["width"] == 8

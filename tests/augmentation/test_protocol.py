from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from simulacra.augmentation.classifiers import ImageClassifier, fit_classifier, with_rotation_labels
from simulacra.augmentation.config import AugmentationConfig, ClassifierConfig
from simulacra.augmentation.protocol import draw_scarce, mix, run_trial, synthesiser, train_on_real
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.vae import VAE, VAEConfig
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History

CLASSIFIER = ClassifierConfig(width=8, shift=0, training=TrainingConfig(steps=40, batch_size=32, learning_rate=5e-3))
CONFIG = AugmentationConfig(images_per_class=4, synthetic_per_class=60, classifier=CLASSIFIER)
TRAIN = fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=0)
TEST = fabricate_images(n=150, size=10, channels=1, n_classes=3, seed=1)
REAL = fabricate_images(n=900, size=10, channels=1, n_classes=3, seed=2)


def more_real(scarce: ImageSet, classes: NDArray[np.int64], seed: int) -> ImageSet:
    """A perfect generator: it hands out real images that nobody has seen."""
    rng = np.random.default_rng(seed)
    assert REAL.labels is not None
    return REAL.take([int(rng.choice(np.flatnonzero(REAL.labels == label))) for label in classes])


def wrong_labels(scarce: ImageSet, classes: NDArray[np.int64], seed: int) -> ImageSet:
    """A harmful generator: its images belong to the next class."""
    drawn = more_real(scarce, (classes + 1) % 3, seed)
    return ImageSet(drawn.images, classes, drawn.class_names)


def test_a_perfect_generator_helps_and_a_harmful_one_hurts() -> None:
    baseline = train_on_real(TRAIN, TEST, CONFIG, seed=0)
    good = run_trial(TRAIN, TEST, baseline, CONFIG, more_real)
    bad = run_trial(TRAIN, TEST, baseline, CONFIG, wrong_labels)
    assert good["verdict"] == "helps" and good["interval"][0] > 0
    assert bad["verdict"] == "hurts" and bad["interval"][1] < 0
    assert good["accuracy_real"] == bad["accuracy_real"]
    differences = [row["augmented"] - row["real"] for row in good["per_seed"]]
    assert good["difference"] == pytest.approx(np.mean(differences)) and len(differences) == 5
    assert baseline["accuracy_all_real"] > good["accuracy_real"]


def test_the_generator_sees_the_scarce_set_of_the_pair_only() -> None:
    seen: list[tuple[int, str]] = []

    def spy(scarce: ImageSet, classes: NDArray[np.int64], seed: int) -> ImageSet:
        seen.append((seed, scarce.fingerprint()))
        assert np.bincount(classes).tolist() == [60] * 3
        return more_real(scarce, classes, seed)

    quick = CONFIG.model_copy(
        update={"classifier": CLASSIFIER.model_copy(update={"training": TrainingConfig(steps=1, batch_size=8)})}
    )
    run_trial(TRAIN, TEST, train_on_real(TRAIN, TEST, quick, seed=7), quick, spy)
    assert seen == [(seed, draw_scarce(TRAIN, 4, seed).fingerprint()) for seed in range(7000, 7005)]
    assert len({fingerprint for _, fingerprint in seen}) == 5


class Recording(VAE):
    """A VAE that notes the budget of each of its trainings."""

    budgets: ClassVar[list[TrainingConfig]] = []

    def fit(self, train: ImageSet, *, training: TrainingConfig, **options: Any) -> History:
        self.budgets.append(training)
        return super().fit(train, training=training, **options)


@pytest.mark.parametrize(("own", "expected"), [(64, 16), (8, 8)])
def test_a_refitted_generator_has_the_trials_steps_and_batches_of_its_own_or_smaller(own: int, expected: int) -> None:
    model = Recording(VAEConfig(latent_dim=2, width=4, levels=1))
    config = CONFIG.model_copy(update={"generator_steps": 3, "generator_batch_size": 16})
    synthesise = synthesiser(model, TrainingConfig(steps=999, batch_size=own), config)
    samples = synthesise(draw_scarce(TRAIN, 10, 0), np.array([0, 2, 2]), 5)
    assert samples.labels is not None and samples.labels.tolist() == [0, 2, 2]
    budget = Recording.budgets.pop()
    assert (budget.steps, budget.batch_size, budget.checkpoint_minutes) == (3, expected, 0)


def test_scarce_sets_are_balanced_and_take_what_there_is() -> None:
    lopsided = TRAIN.take(
        np.concatenate([np.flatnonzero(TRAIN.labels == label)[: (50, 3, 20)[label]] for label in range(3)])
    )
    assert np.bincount(draw_scarce(lopsided, 10, 0).labels).tolist() == [10, 3, 10]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_mix_repeats_the_real_rows_to_their_share(share: float) -> None:
    real, synthetic = TRAIN.take(range(6)), TRAIN.take(range(100, 160))
    mixed = mix(real, synthetic, share)
    assert (len(mixed) - 60) / len(mixed) == pytest.approx(share, abs=0.05)
    assert (mixed.images[:6] == real.images).all() and (mixed.images[-60:] == synthetic.images).all()
    assert mixed.labels is not None and (mixed.labels[-60:] == synthetic.labels).all()


def test_mix_repeats_the_synthetic_rows_where_they_are_the_scarcer() -> None:
    real, synthetic = TRAIN.take(range(60)), TRAIN.take(range(100, 110))
    mixed = mix(real, synthetic, 0.25)
    assert 60 / len(mixed) == pytest.approx(0.25, abs=0.01)
    assert (mixed.images[:60] == real.images).all()
    assert np.unique(mixed.images[60:], axis=0).shape == np.unique(synthetic.images, axis=0).shape


def test_a_classifier_learns_saves_and_loads(tmp_path) -> None:
    classifier, history = fit_classifier(TRAIN, CLASSIFIER, seed=0, validation=TEST)
    assert (classifier.predict(TEST.images) == TEST.labels).mean() > 0.6
    assert set(history.frame().query("split == 'validation'")["name"]) == {"loss", "accuracy"}
    classifier.save(tmp_path)
    loaded = ImageClassifier.load(tmp_path)
    assert (loaded.predict(TEST.images) == classifier.predict(TEST.images)).all()
    assert loaded.class_names == TRAIN.class_names


def test_a_classifier_needs_labels() -> None:
    with pytest.raises(SimulacraError, match="needs labelled images"):
        fit_classifier(ImageSet(TRAIN.images), CLASSIFIER, seed=0)


def test_rotation_labels_tell_how_an_image_was_turned() -> None:
    turned = with_rotation_labels(ImageSet(TRAIN.images), seed=0)
    assert turned.n_classes == 4 and set(turned.labels) == {0, 1, 2, 3}
    for original, image, label in zip(TRAIN.images, turned.images, turned.labels, strict=True):
        assert (np.rot90(original[0], label) == image[0]).all()

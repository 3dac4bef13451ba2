from itertools import product

import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.naive_bayes import NaiveBayes, NaiveBayesConfig
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise

DATA = fabricate_images(n=200, size=8, channels=1, n_classes=3, seed=0)
X = DATA.images.reshape(200, -1)
BINARY = ImageSet((DATA.images > 100).astype(np.uint8) * np.uint8(255), DATA.labels, DATA.class_names)


def fit(data: ImageSet, **config: object) -> NaiveBayes:
    model = NaiveBayes(NaiveBayesConfig.model_validate(config))
    model.fit(data, training=TrainingConfig(), seed=0)
    return model


@pytest.mark.parametrize("alpha", [1.0, 0.05])
def test_categorical_joint_agrees_with_scikit_learn(alpha: float) -> None:
    model = fit(DATA, features="categorical", alpha=alpha)
    reference = CategoricalNB(alpha=alpha, min_categories=256).fit(X, DATA.labels)
    fresh = np.random.default_rng(1).integers(0, 256, (20, 1, 8, 8), np.uint8)
    for images in (DATA.images, fresh):
        expected = reference.predict_joint_log_proba(images.reshape(len(images), -1))
        assert model.joint(images) == pytest.approx(expected, rel=1e-8)
    assert (model.classify(DATA.images) == reference.predict(X)).all()


@pytest.mark.parametrize("alpha", [1.0, 0.05])
def test_bernoulli_joint_agrees_with_scikit_learn(alpha: float) -> None:
    model = fit(BINARY, features="bernoulli", alpha=alpha)
    reference = BernoulliNB(alpha=alpha, binarize=None).fit(BINARY.images.reshape(200, -1) / 255, BINARY.labels)
    expected = reference.predict_joint_log_proba(BINARY.images.reshape(200, -1) / 255)
    assert model.joint(BINARY.images) == pytest.approx(expected, rel=1e-8)


def test_gaussian_joint_agrees_with_scikit_learn() -> None:
    model = fit(DATA, features="gaussian", variance_smoothing=0)
    # scikit-learn adds var_smoothing times the largest variance of all the data; here that is dequantisation's 1/12.
    reference = GaussianNB(var_smoothing=1 / 12 / X.var(0).max()).fit(X, DATA.labels)
    x = X + Noise(0).uniform(*DATA.images.shape).double().numpy().reshape(X.shape)
    assert model.joint(DATA.images, seed=0) == pytest.approx(reference.predict_joint_log_proba(x - 0.5), rel=1e-8)


def test_categorical_probabilities_of_all_images_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    data = ImageSet(rng.integers(0, 256, (40, 1, 1, 2), np.uint8), rng.integers(0, 2, 40), ("a", "b"))
    model = fit(data, features="categorical", alpha=0.3)
    all_images = np.array(list(product(range(256), repeat=2)), np.uint8).reshape(-1, 1, 1, 2)
    assert np.exp(model.log_prob(all_images)).sum() == pytest.approx(1, abs=1e-9)


def test_bernoulli_probabilities_of_all_binary_images_sum_to_one() -> None:
    small = ImageSet(DATA.images[:, :, 3:5, 3:5], DATA.labels, DATA.class_names)
    model = fit(small, features="bernoulli")
    all_images = np.array(list(product((0, 255), repeat=4)), np.uint8).reshape(-1, 1, 2, 2)
    assert np.exp(model.log_prob(all_images)).sum() == pytest.approx(1, abs=1e-9)


def test_gaussian_density_integrates_to_one() -> None:
    small = ImageSet(DATA.images[:, :, 3:4, 3:5], DATA.labels, DATA.class_names)
    model = fit(small, features="gaussian")
    axis = np.linspace(-600, 900, 751)  # sums over a grid are exact for what is smooth and vanishes at the border
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    densities = np.exp(model.log_densities(grid)) @ model.class_frequencies
    assert densities.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-5)


def test_dequantised_moments_are_those_of_the_noise_s_own_distribution() -> None:
    model = fit(ImageSet(DATA.images), features="gaussian", variance_smoothing=0)
    many = np.repeat(X, 500, axis=0) + np.random.default_rng(0).random((len(X) * 500, 64))
    assert model.tensors()["means"][0] == pytest.approx(many.mean(0), abs=0.01)
    assert model.tensors()["variances"][0] == pytest.approx(many.var(0), rel=5e-3)


def test_a_pixel_that_never_changes_keeps_the_variance_of_dequantisation() -> None:
    flat = DATA.images.copy()
    flat[:, :, 0, 0] = 7
    model = fit(ImageSet(flat), features="gaussian", variance_smoothing=0)
    assert model.tensors()["variances"].min() == pytest.approx(1 / 12)
    assert np.isfinite(model.log_prob(flat)).all()


def test_bernoulli_counts_are_expectations_over_binarisation() -> None:
    model = fit(ImageSet(DATA.images), features="bernoulli", alpha=1e-9)
    rng = np.random.default_rng(0)
    drawn = np.mean([rng.random(X.shape) < X / 255 for _ in range(300)], axis=(0, 1))
    assert model.tensors()["ink"][0] / 200 == pytest.approx(drawn, abs=0.01)


def test_likelihoods_say_what_they_are_of() -> None:
    keys = {f: fit(DATA, features=f).likelihood.key for f in ("categorical", "bernoulli", "gaussian")}
    assert keys == {"categorical": "bits_per_dim", "bernoulli": "bits_per_dim_binary", "gaussian": "bits_per_dim"}
    assert not fit(DATA, features="categorical").likelihood.random
    assert fit(DATA, features="gaussian").likelihood.dequantisation == "uniform"


@pytest.mark.parametrize("features", ["categorical", "bernoulli", "gaussian"])
def test_samples_of_a_class_have_its_pixels_means(features: str) -> None:
    middling = ImageSet(96 + DATA.images // 4, DATA.labels, DATA.class_names)
    model = fit(middling, features=features, alpha=1e-6, variance_smoothing=0)
    for label in range(3):
        real = middling.images[middling.labels == label].mean(0)
        drawn = model.sample(5000, condition=label, seed=0).images.mean(0)
        assert drawn == pytest.approx(real, abs=8 if features == "bernoulli" else 2.5)


def test_categorical_samples_have_the_levels_frequencies() -> None:
    levels = np.array([0, 0, 0, 9, 9, 255], np.uint8).reshape(-1, 1, 1, 1)
    model = fit(ImageSet(levels), features="categorical", alpha=0.5)
    drawn = np.bincount(model.sample(200_000, seed=0).images.ravel(), minlength=256) / 200_000
    expected = (np.bincount(levels.ravel(), minlength=256) + 0.5) / (6 + 128)
    assert drawn == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("features", ["categorical", "bernoulli", "gaussian"])
def test_classes_are_told_better_than_by_chance(features: str) -> None:
    fresh = fabricate_images(n=90, size=8, channels=1, n_classes=3, seed=1)
    model = fit(DATA, features=features)
    assert (model.classify(fresh.images) == fresh.labels).mean() > 0.5  # chance is a third


def test_free_numbers_are_counted() -> None:
    counts = [fit(DATA, features=f).n_parameters() for f in ("categorical", "bernoulli", "gaussian")]
    assert counts == [3 * 64 * 255, 3 * 64, 3 * 64 * 2]


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(SimulacraError, match="class 'cross' has no training images"):
        fit(ImageSet(DATA.images, np.minimum(DATA.labels, 1), DATA.class_names), features="gaussian")


def test_validation_nats_stand_beside_those_of_training() -> None:
    model = NaiveBayes(NaiveBayesConfig())
    history = model.fit(DATA, validation=DATA.take(range(50)), training=TrainingConfig())
    frame = history.frame().set_index("split")["value"]
    assert frame["train"] == pytest.approx(-model.log_prob(DATA.images).mean())
    assert frame["validation"] == pytest.approx(-model.log_prob(DATA.images[:50]).mean())

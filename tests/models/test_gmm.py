import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Reference

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise

DATA = fabricate_images(n=200, size=8, channels=1, n_classes=2, seed=0)


def fit(data: ImageSet, **config: object) -> GaussianMixture:
    model = GaussianMixture(GMMConfig.model_validate(config))
    model.fit(data, training=TrainingConfig(), seed=0)
    return model


def test_density_is_the_closed_form_of_a_gaussian() -> None:
    model = fit(ImageSet(DATA.images), pca_dim=5, components=(1,))
    arrays = model.tensors()
    axes, factor = arrays["axes"], arrays["0.factors"][0]
    noise = arrays["noise_variance"][0] * (np.eye(64) - axes.T @ axes)
    whole = multivariate_normal(arrays["mean"] + arrays["0.means"][0] @ axes, axes.T @ factor @ factor.T @ axes + noise)
    x = np.random.default_rng(1).normal(size=(20, 64)) * 0.5
    assert model.log_densities(x)[:, 0] == pytest.approx(whole.logpdf(x), rel=1e-8)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_mixture_agrees_with_scikit_learn(covariance: str) -> None:
    model = fit(ImageSet(DATA.images), pca_dim=4, components=(3,), covariance=covariance)
    arrays = model.tensors()
    # scikit-learn's own density for the same parameters, in the subspace.
    reference = Reference(3, covariance_type="full")
    reference.weights_, reference.means_ = arrays["0.weights"], arrays["0.means"]
    reference.covariances_ = arrays["0.factors"] @ arrays["0.factors"].transpose(0, 2, 1)
    reference.precisions_cholesky_ = np.linalg.inv(arrays["0.factors"]).transpose(0, 2, 1)
    z = np.random.default_rng(0).normal(size=(30, 4))
    assert model._mixture_log_density(0, z) == pytest.approx(reference.score_samples(z), rel=1e-8)


def test_density_integrates_to_one_over_two_pixels() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(60, 200, (60, 1, 1, 2), np.uint8)
    images[:30, 0, 0, 0] //= 2
    model = fit(ImageSet(images), pca_dim=1, components=(2,))

    def density(a: float, b: float) -> float:
        return float(np.exp(model.log_densities(np.array([[a, b]])))[0, 0])

    mass, _ = dblquad(density, -4, 4, -4, 4, epsabs=1e-6)
    assert mass == pytest.approx(1, abs=1e-5)


def test_log_prob_counts_grey_levels() -> None:
    model = fit(DATA, pca_dim=6)
    x = (DATA.images + Noise(0).uniform(*DATA.images.shape).numpy()).reshape(200, -1) / 128 - 1
    joint = model.log_densities(x) + np.log(model.class_frequencies)
    assert model.log_prob(DATA.images, seed=0) == pytest.approx(logsumexp(joint, axis=1) + 64 * np.log(1 / 128))


def test_classes_are_summed_out() -> None:
    model = fit(DATA, pca_dim=3, components=(1,))
    x = np.random.default_rng(0).normal(size=(5, 64)) * 0.3
    arrays = model.tensors()
    z = (x - arrays["mean"]) @ arrays["axes"].T
    inside = [
        multivariate_normal(arrays[f"{y}.means"][0], arrays[f"{y}.factors"][0] @ arrays[f"{y}.factors"][0].T).pdf(z)
        for y in (0, 1)
    ]
    share = np.bincount(DATA.labels) / len(DATA)
    outside = 61
    residual = np.square(x - arrays["mean"]).sum(1) - np.square(z).sum(1)
    variance = arrays["noise_variance"][0]
    noise = -0.5 * (residual / variance + outside * np.log(2 * np.pi * variance))
    expected = np.log(share[0] * inside[0] + share[1] * inside[1]) + noise
    joint = model.log_densities(x) + np.log(model.class_frequencies)
    assert logsumexp(joint, axis=1) == pytest.approx(expected)


def test_bic_finds_the_number_of_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[40, 40], [200, 60], [120, 220]])
    images = np.concatenate([rng.normal(centre, 6, (80, 2)) for centre in centres]).round().astype(np.uint8)
    padded = np.concatenate([images, rng.integers(100, 103, (240, 2))], axis=1).astype(np.uint8).reshape(-1, 1, 2, 2)
    model = GaussianMixture(GMMConfig(pca_dim=2, components=(1, 2, 3, 5)))
    history = model.fit(ImageSet(padded), training=TrainingConfig(), seed=0)
    assert len(model.tensors()["0.weights"]) == 3
    curve = history.frame().set_index("step")["value"]
    assert curve.idxmin() == 3 and curve.index.tolist() == [1, 2, 3, 5]


def test_samples_have_the_model_s_moments() -> None:
    middling = ImageSet(96 + DATA.images // 4)  # far enough from black and white that no sample is clipped
    model = fit(middling, pca_dim=5, components=(1,), observation_noise=True)
    arrays = model.tensors()
    pixels = model.sample(20_000, seed=0).images.reshape(20_000, -1)
    assert 0 < pixels.min() <= pixels.max() < 255
    samples = (pixels + 0.5) / 128 - 1
    assert samples.mean(0) == pytest.approx(arrays["mean"] + arrays["0.means"][0] @ arrays["axes"], abs=0.01)
    axes, factor = arrays["axes"], arrays["0.factors"][0]
    noise = arrays["noise_variance"][0] * (np.eye(64) - axes.T @ axes)
    expected = axes.T @ factor @ factor.T @ axes + noise
    assert np.cov(samples.T) == pytest.approx(expected, abs=0.05 * expected.max())


def test_too_few_rows_are_named() -> None:
    with pytest.raises(SimulacraError, match=r"3 rows are too few for 4 components"):
        fit(ImageSet(DATA.images[:3]), pca_dim=1, components=(4,))


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_free_parameters_are_counted_as_scikit_learn_counts_them(covariance: str) -> None:
    model = fit(ImageSet(DATA.images), pca_dim=4, components=(3,), covariance=covariance)
    reference = Reference(3, covariance_type=covariance)
    reference.means_ = np.zeros((3, 4))
    assert model.n_parameters() == reference._n_parameters() + 64 + 4 * 64 + 1

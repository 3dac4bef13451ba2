import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Reference

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.gmm import DEQUANTISATION_VARIANCE, GaussianMixture, GMMConfig
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise

DATA = fabricate_images(n=200, size=8, channels=1, n_classes=2, seed=0)


def fit(data: ImageSet, **config: object) -> GaussianMixture:
    """A mixture over principal components, with full covariances unless told otherwise."""
    config = {"space": "pca", "covariance": "full", "criterion": "bic", "components": (1, 2, 4, 8), **config}
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
    reference.covariances_ = model.mixture(0).covariances()
    reference.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(reference.covariances_)).transpose(0, 2, 1)
    z = np.random.default_rng(0).normal(size=(30, 4))
    assert model.mixture(0).log_density(z) == pytest.approx(reference.score_samples(z), rel=1e-8)


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
    model = GaussianMixture(
        GMMConfig(space="pca", covariance="full", pca_dim=2, components=(1, 2, 3, 5), criterion="bic")
    )
    history = model.fit(ImageSet(padded), training=TrainingConfig(), seed=0)
    assert len(model.tensors()["0.weights"]) == 3
    curves = history.frame().pivot(index="step", columns="name", values="value")
    assert curves["bic"].idxmin() == 3 and curves.index.tolist() == [1, 2, 3, 5]
    assert (curves["aic"] < curves["bic"]).all()


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


def over_pixels(data: ImageSet, **config: object) -> GaussianMixture:
    return fit(
        data, **{"space": "pixel", "covariance": "factor_analysis", "n_factors": 2, "components": (2,), **config}
    )


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "factor_analysis"])
def test_density_over_pixels_is_that_of_its_covariances(covariance: str) -> None:
    model = over_pixels(ImageSet(DATA.images), covariance=covariance, reg_covar=1e-3)
    mixture = model.mixture(0)
    x = np.random.default_rng(1).normal(size=(20, 64)) * 0.5
    parts = zip(mixture.weights, mixture.means, mixture.covariances(), strict=True)
    terms = [np.log(weight) + multivariate_normal(mean, cov).logpdf(x) for weight, mean, cov in parts]
    assert model.log_densities(x)[:, 0] == pytest.approx(logsumexp(terms, axis=0), rel=1e-8)


@pytest.mark.parametrize("covariance", ["full", "factor_analysis"])
def test_density_over_pixels_integrates_to_one(covariance: str) -> None:
    images = np.random.default_rng(0).integers(60, 200, (60, 1, 1, 2), np.uint8)
    images[:30, 0, 0, 0] //= 2
    model = over_pixels(ImageSet(images), covariance=covariance, n_factors=1)
    axis = np.linspace(-4, 4, 801)  # sums over a grid are exact for what is smooth and vanishes at the border
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    mass = np.exp(model.log_densities(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-5)


def test_a_border_that_is_always_black_costs_next_to_nothing() -> None:
    """One noise for all pixels is a poor density of images with a border; a noise of each pixel's own is not."""
    bordered = np.pad(DATA.images, ((0, 0), (0, 0), (8, 8), (8, 8)))
    rows = slice(0, 150), slice(150, 200)
    train, test = (ImageSet(bordered[part]) for part in rows)
    own, shared = over_pixels(train), fit(train, pca_dim=6)
    inner = over_pixels(ImageSet(DATA.images[rows[0]]))
    border = inner.log_prob(DATA.images[rows[1]]).mean() - own.log_prob(test.images).mean()
    # Normal noise of a grey level's own variance 1/12 and of reg_covar's one squared level.
    cost = 0.5 * np.log(2 * np.pi * (1 / 12 + 6e-5 * 128**2)) + 0.5 / 12 / (1 / 12 + 6e-5 * 128**2)
    assert border == pytest.approx(512 * cost, rel=0.1)
    assert own.log_prob(test.images).mean() > shared.log_prob(test.images).mean() + 512


def test_no_variance_falls_below_that_of_dequantisation() -> None:
    flat = ImageSet(np.full((30, 1, 4, 4), 7, np.uint8))
    model = over_pixels(flat, components=(1, 4), criterion="largest", reg_covar=DEQUANTISATION_VARIANCE, prior_rows=0)
    assert model.tensors()["0.variances"].min() >= DEQUANTISATION_VARIANCE
    with pytest.raises(ValueError, match="greater than or equal to"):
        GMMConfig(reg_covar=DEQUANTISATION_VARIANCE / 2)


def test_samples_over_pixels_are_means_unless_noise_is_asked_for() -> None:
    middling = ImageSet(96 + DATA.images // 4)
    clean = over_pixels(middling, components=(1,))
    mixture = clean.mixture(0)
    noisy = over_pixels(middling, components=(1,), observation_noise=True)
    explained = np.square(mixture.factors[0]).sum(1)
    for model, variance in ((clean, explained), (noisy, explained + mixture.variances[0])):
        pixels = model.sample(20_000, seed=0).images.reshape(20_000, -1) / 128
        assert pixels.mean(0) - 1 + 0.5 / 128 == pytest.approx(mixture.means[0], abs=0.01)
        # Rounding down to a grey level is uniform noise of its own.
        assert pixels.var(0) == pytest.approx(variance + DEQUANTISATION_VARIANCE, rel=0.08, abs=1e-5)


def test_classes_have_mixtures_of_their_own_over_pixels() -> None:
    model = over_pixels(DATA, components=(1,))
    fresh = fabricate_images(n=100, size=8, channels=1, n_classes=2, seed=1)
    assert (model.classify(fresh.images) == fresh.labels).mean() > 0.9
    assert model.n_parameters() == 2 * (64 * 4 - 1)

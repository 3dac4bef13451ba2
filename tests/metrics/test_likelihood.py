import numpy as np
import pytest
from scipy.stats import norm

from simulacra.errors import SimulacraError
from simulacra.metrics import LIKELIHOODS, NATS
from simulacra.metrics.likelihood import (
    LOG_DET_SCALING,
    Likelihood,
    bits_per_dim,
    bits_per_dim_with_error,
    dequantise,
)


def test_uniform_pixels_cost_eight_bits():
    """The density of a grey level spread evenly over [0, 256) is 1/256 in each dimension."""
    assert bits_per_dim(np.full(5, -784 * np.log(256)), 784) == pytest.approx(8, rel=1e-14)


def test_dequantised_pixels_fill_their_level_and_their_density_counts_grey_levels():
    images = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    low, high = dequantise(images, np.zeros(images.shape)), dequantise(images, np.full(images.shape, 1 - 1e-12))
    assert low.min() == -1 and high.max() == pytest.approx(1)
    assert low.ravel()[1:] == pytest.approx(high.ravel()[:-1])
    # The uniform density over [-1, 1) is 1/2 a dimension, and one grey level of 256 holds 1/256.
    assert np.log(1 / 2) + LOG_DET_SCALING == pytest.approx(-np.log(256))


def test_kinds_of_likelihood_never_share_a_key():
    kinds = [Likelihood(bound=bound, binarisation=how) for bound in (False, True) for how in ("none", "random")]
    assert len({kind.key for kind in kinds} | {kind.nats_key for kind in kinds}) == 8
    assert {kind.key for kind in kinds} == set(LIKELIHOODS) and {kind.nats_key for kind in kinds} == set(NATS)


def test_what_depends_on_no_draw_says_one():
    assert not Likelihood(bound=False).random
    assert Likelihood(bound=False).describe(50)["importance_samples"] == 1
    assert Likelihood(bound=False, dequantisation="uniform").describe(50)["importance_samples"] == 50


def test_dequantised_density_bounds_the_discrete_model_that_it_induces():
    """Averaged over u, −log₂ p(x + u) is at least −log₂ of the mass of [x, x + 1) (Theis et al. 2016, section 3.1)."""
    gaussian, grey_levels = norm(100, 3), np.arange(80, 121)
    offsets = (np.arange(2000) + 0.5) / 2000
    mass = gaussian.cdf(grey_levels + 1) - gaussian.cdf(grey_levels)
    nats = gaussian.logpdf(grey_levels[:, np.newaxis] + offsets).mean(axis=1)
    density_bits = np.array([bits_per_dim(nats[i : i + 1], 1) for i in range(len(grey_levels))])
    assert (density_bits >= -np.log2(mass)).all()
    np.testing.assert_allclose(mass @ density_bits, -mass @ np.log2(mass), rtol=0.01)


def test_mean_and_standard_error_by_hand():
    nats = -np.log(2) * 2 * np.array([1.0, 3.0])
    assert bits_per_dim(nats, 2) == pytest.approx(2)
    assert bits_per_dim_with_error(nats, 2) == (pytest.approx(2), pytest.approx(1))


@pytest.mark.parametrize(
    ("nats", "n_dims", "message"),
    [
        (np.array([-1.0, np.nan, -np.inf]), 4, "log-likelihoods: 2 of 3 rows are not finite"),
        (np.zeros((3, 1)), 4, r"shape \(n,\) with n at least 1, got \(3, 1\)"),
        (np.zeros(0), 4, r"got \(0,\)"),
        (np.zeros(3), 0, "n_dims is 0"),
    ],
)
def test_what_has_no_bits_is_refused(nats, n_dims, message):
    with pytest.raises(SimulacraError, match=message):
        bits_per_dim(nats, n_dims)


def test_error_needs_two_examples():
    with pytest.raises(SimulacraError, match="n at least 2"):
        bits_per_dim_with_error(np.zeros(1), 4)

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from simulacra.errors import SimulacraError
from simulacra.metrics.frechet import frechet_distance
from simulacra.metrics.sliced_wasserstein import sliced_wasserstein_distance, transport_powers


@pytest.mark.parametrize(("n", "k"), [(50, 50), (50, 30), (7, 49), (1, 6)])
def test_one_dimension_agrees_with_scipy(n, k):
    generator = np.random.default_rng(n)
    first, second = generator.normal(size=(n, 3)), generator.normal(1, 2, (k, 3))
    expected = [wasserstein_distance(first[:, column], second[:, column]) for column in range(3)]
    np.testing.assert_allclose(transport_powers(first, second, 1), expected, rtol=1e-12)


def test_unequal_numbers_join_quantiles():
    """0 and 3 to 1, 1, 4: thirds of 0 to 1 and 1, of 3 to 1 and 4, the middle third of both halves."""
    found = transport_powers(np.array([[3.0], [0.0]]), np.array([[1.0], [4.0], [1.0]]), 2)
    assert found == pytest.approx([(1 / 3) * 1 + (1 / 6) * 1 + (1 / 6) * 4 + (1 / 3) * 1])


def test_a_shift_is_seen_by_its_part_along_each_direction():
    """The mean of (θ · s)² over the sphere is |s|² / d; with many directions it is met."""
    features, shift = np.random.default_rng(0).normal(size=(20, 6)), np.array([3.0, 0, 0, 4, 0, 0])
    found = sliced_wasserstein_distance(features, features + shift, n_projections=20_000)
    assert found == pytest.approx(5 / np.sqrt(6), rel=0.02)


def test_a_scaled_gaussian_is_as_far_as_its_deviations():
    """Along any line N(0, 1) and N(0, 9): the second order distance is 2, up to what the drawing leaves."""
    generator = np.random.default_rng(1)
    real, generated = generator.normal(size=(20_000, 4)), 3 * generator.normal(size=(20_000, 4))
    assert sliced_wasserstein_distance(real, generated, n_projections=32) == pytest.approx(2, rel=0.02)


def test_sees_what_two_moments_hide():
    """A Gaussian and a pair of points of its mean and deviation: Z goes to its sign, and E (|Z| − 1)² is 2 − √(8/π)."""
    generator = np.random.default_rng(2)
    real, pair = generator.normal(size=(20_000, 1)), np.tile([[-1.0], [1.0]], (10_000, 1))
    assert sliced_wasserstein_distance(real, pair) == pytest.approx(np.sqrt(2 - np.sqrt(8 / np.pi)), rel=0.02)
    assert frechet_distance(real, pair) < 1e-3


def test_same_seed_same_number_and_order_of_rows_does_not_matter():
    generator = np.random.default_rng(3)
    real, generated = generator.normal(size=(30, 5)).astype(np.float32), generator.normal(size=(30, 5))
    found = sliced_wasserstein_distance(real, generated, seed=4)
    assert found == sliced_wasserstein_distance(real, generated, seed=4)
    assert found == pytest.approx(sliced_wasserstein_distance(real[::-1], generated, seed=4), rel=1e-12)
    assert found != sliced_wasserstein_distance(real, generated, seed=5)


def test_options_and_features_are_checked():
    with pytest.raises(SimulacraError, match="order is 0 and n_projections 256"):
        sliced_wasserstein_distance(np.zeros((3, 2)), np.zeros((3, 2)), order=0)
    with pytest.raises(SimulacraError, match="generated features 3"):
        sliced_wasserstein_distance(np.zeros((3, 2)), np.zeros((3, 3)))

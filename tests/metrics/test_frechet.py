import tracemalloc

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from simulacra.errors import SimulacraError
from simulacra.metrics.frechet import (
    Moments,
    frechet_distance,
    frechet_distance_at_infinity,
    frechet_distance_from_moments,
    moments,
)


def correlated(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + shift


def by_torch_fidelity(real: np.ndarray, generated: np.ndarray) -> float:
    statistics = [fid_features_to_statistics(torch.from_numpy(array)) for array in (real, generated)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def by_square_roots(real: np.ndarray, generated: np.ndarray) -> float:
    """tr (Σ₁Σ₂)^½ = tr (Σ₁^½ Σ₂ Σ₁^½)^½, with both roots of symmetric matrices by scipy."""
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = sqrtm(first).real
    trace = np.trace(sqrtm(root @ second @ root).real)
    shift = real.mean(axis=0) - generated.mean(axis=0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * trace)


def test_one_dimension_is_the_distance_of_means_and_deviations():
    first, second = Moments(np.array([1.0]), np.array([[4.0]]), 10), Moments(np.array([4.0]), np.array([[25.0]]), 10)
    assert frechet_distance_from_moments(first, second) == pytest.approx((4 - 1) ** 2 + (5 - 2) ** 2, rel=1e-12)


def test_diagonal_covariances():
    generator = np.random.default_rng(0)
    deviations, means = generator.uniform(0.1, 3, (2, 7)), generator.normal(size=(2, 7))
    first, second = (Moments(mean, np.diag(std**2), 10) for mean, std in zip(means, deviations, strict=True))
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance_from_moments(first, second) == pytest.approx(expected, rel=1e-12)


def test_commuting_covariances_after_a_rotation():
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5))).Q
    first, second = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 2, 9, 1, 0.5])
    pair = (Moments(np.zeros(5), rotation @ np.diag(values) @ rotation.T, 10) for values in (first, second))
    expected = np.square(np.sqrt(first) - np.sqrt(second)).sum()
    assert frechet_distance_from_moments(*pair) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_singular_covariances(order):
    """Dead units: deviations 0 on some axes, which Cholesky refuses."""
    deviations = np.array([[0.0, 0, 1, 2, 3], [0.0, 4, 0, 1, 5]])
    pair = [Moments(np.zeros(5), np.diag(std**2), 10) for std in deviations]
    expected = np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance_from_moments(pair[order[0]], pair[order[1]]) == pytest.approx(expected, rel=1e-12)


def test_constant_features_are_as_far_apart_as_their_means():
    real, generated = np.zeros((9, 3)), np.full((9, 3), 2.0)
    assert frechet_distance(real, generated) == 12
    assert frechet_distance(real[:3], generated[:3]) == 12


def test_moments_are_those_of_numpy():
    features = correlated(50, 4, seed=2, shift=3)
    found = moments(features)
    np.testing.assert_allclose(found.mean, features.mean(axis=0))
    np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), rtol=1e-12)
    assert found.n == 50


@pytest.mark.parametrize("n", [300, 20])
def test_equal_features_are_at_distance_zero(n):
    features = correlated(n, 40, seed=3)
    assert 0 <= frechet_distance(features, features) < 1e-9 * np.trace(np.cov(features, rowvar=False))


@pytest.mark.parametrize("n", [300, 20])
def test_shift_of_the_mean_adds_its_square(n):
    features = correlated(n, 40, seed=4)
    assert frechet_distance(features, features + 0.5) == pytest.approx(40 * 0.25, rel=1e-9)


def test_agrees_with_torch_fidelity():
    real, generated = correlated(500, 32, seed=5), correlated(400, 32, seed=6, shift=0.3)
    assert frechet_distance(real, generated) == pytest.approx(by_torch_fidelity(real, generated), rel=1e-10)
    assert frechet_distance(real, generated) == pytest.approx(by_square_roots(real, generated), rel=1e-10)


@pytest.mark.parametrize(("n_real", "n_generated"), [(25, 30), (25, 200), (200, 25), (40, 40), (41, 40), (41, 41)])
def test_fewer_rows_than_columns_agrees_with_square_roots(n_real, n_generated):
    real, generated = correlated(n_real, 40, seed=7), correlated(n_generated, 40, seed=8, shift=0.3)
    assert frechet_distance(real, generated) == pytest.approx(by_square_roots(real, generated), rel=1e-6)
    assert frechet_distance(real, generated) == pytest.approx(by_torch_fidelity(real, generated), rel=1e-5)


def test_routes_by_features_and_by_moments_agree_where_covariances_are_singular():
    real, generated = correlated(25, 40, seed=9), correlated(30, 40, seed=10)
    expected = frechet_distance(real, generated)
    assert frechet_distance_from_moments(moments(real), moments(generated)) == pytest.approx(expected, rel=1e-12)


def test_dead_and_repeated_units_agree_with_the_distance_without_them():
    real, generated = correlated(300, 10, seed=11), correlated(300, 10, seed=12)
    expected = frechet_distance(real, generated)
    padded = [np.concatenate([array, np.zeros((300, 5))], axis=1) for array in (real, generated)]
    repeated = [np.concatenate([array, array], axis=1) / np.sqrt(2) for array in (real, generated)]
    assert frechet_distance(*padded) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(*repeated) == pytest.approx(expected, rel=1e-7)


def test_order_does_not_matter():
    real, generated = correlated(100, 8, seed=13), correlated(100, 8, seed=14)
    assert frechet_distance(real, generated) == pytest.approx(frechet_distance(generated, real), rel=1e-10)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (np.zeros(2), np.eye(3), r"got \(2,\) and \(3, 3\)"),
        (np.array([0, np.nan]), np.eye(2), "mean holds 1 of 2 numbers"),
        (np.zeros(2), np.full((2, 2), np.inf), "covariance holds 4 of 4 numbers"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.1, 1.0]]), "covariance is not symmetric"),
    ],
)
def test_moments_that_give_no_distance_are_refused(mean, covariance, message):
    with pytest.raises(SimulacraError, match=message):
        Moments(mean, covariance, 10)


def test_negative_eigenvalues_are_refused_on_either_side():
    sound, broken = Moments(np.zeros(2), np.eye(2), 10), Moments(np.zeros(2), np.diag([1.0, -1.0]), 10)
    for pair in ((sound, broken), (broken, sound)):
        with pytest.raises(SimulacraError, match="1 negative eigenvalues"):
            frechet_distance_from_moments(*pair)


def test_unequal_dimensions_are_refused():
    with pytest.raises(SimulacraError, match="moments of 2 and 3 dimensions"):
        frechet_distance_from_moments(Moments(np.zeros(2), np.eye(2), 10), Moments(np.zeros(3), np.eye(3), 10))


def test_features_are_checked():
    with pytest.raises(SimulacraError, match="generated features: 1 of 3 rows"):
        frechet_distance(np.zeros((3, 2)), np.array([[0, 0], [0, np.nan], [1, 1]]))
    with pytest.raises(SimulacraError, match="features have 1 rows"):
        moments(np.zeros((1, 2)))


@pytest.mark.parametrize(("n", "limit"), [(20_000, 7.5e6), (200, 1.5e6)])
def test_memory_is_that_of_blocks(n, limit):
    real = np.random.default_rng(20).normal(size=(n, 64)).astype(np.float32)
    tracemalloc.start()
    frechet_distance(real, real)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A float64 copy of the larger set alone would take 10 MB.
    assert peak < limit


def test_single_precision_is_only_the_features_type():
    real, generated = (correlated(300, 12, seed=seed).astype(np.float32) for seed in (21, 22))
    expected = frechet_distance(real.astype(np.float64), generated.astype(np.float64))
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-12)


def test_at_infinity_the_bias_of_small_samples_is_gone():
    """Two Gaussians of eight dimensions, a shift apart of length 0.5: 400 rows show far more, infinitely many 0.25."""
    generator = np.random.default_rng(23)
    plain, extrapolated = [], []
    for seed in range(30):
        real, generated = generator.normal(size=(400, 8)), generator.normal(size=(400, 8)) + 0.5 / np.sqrt(8)
        plain.append(frechet_distance(real, generated))
        extrapolated.append(frechet_distance_at_infinity(real, generated, seed=seed))
    spread = np.std(extrapolated) / np.sqrt(30)
    assert np.mean(plain) - 0.25 > 0.05
    assert np.mean(extrapolated) == pytest.approx(0.25, abs=max(4 * spread, 0.01))


def test_at_infinity_says_how_many_rows_it_needs():
    with pytest.raises(SimulacraError, match=r"more rows than 40.*bring 205 rows, not 200"):
        frechet_distance_at_infinity(np.zeros((200, 40)), np.zeros((300, 40)))

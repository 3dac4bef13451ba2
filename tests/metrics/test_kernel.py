import tracemalloc

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torchmetrics.image.kid import poly_mmd

from simulacra.errors import SimulacraError
from simulacra.metrics.kernel import kernel_distance, kernel_distance_with_error


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def by_enumeration(real: np.ndarray, generated: np.ndarray) -> float:
    """Mean kernel over pairs of distinct rows within each set, less twice the mean across, one pair at a time."""

    def mean(first: np.ndarray, second: np.ndarray, *, distinct: bool) -> float:
        pairs = [
            (x @ y / len(x) + 1) ** 3
            for i, x in enumerate(first)
            for j, y in enumerate(second)
            if not distinct or i != j
        ]
        return float(np.mean(pairs))

    within = mean(real, real, distinct=True) + mean(generated, generated, distinct=True)
    return within - 2 * mean(real, generated, distinct=False)


@pytest.mark.parametrize("block_size", [1, 3, 5, 1024])
def test_unequal_numbers_of_rows_agree_with_enumeration(block_size):
    real, generated = draw(11, 3, seed=0), draw(7, 3, seed=1, shift=0.5)
    found = kernel_distance(real, generated, block_size=block_size)
    assert found == pytest.approx(by_enumeration(real, generated), rel=1e-12)


def test_agrees_with_torch_fidelity_and_torchmetrics_on_the_full_set():
    real, generated = (torch.from_numpy(draw(150, 16, seed=seed, shift=seed / 5)) for seed in (2, 3))
    found = kernel_distance(real.numpy(), generated.numpy(), block_size=64)
    by_fidelity = kid_features_to_metric(real, generated, kid_subsets=1, kid_subset_size=150, verbose=False)
    assert found == pytest.approx(by_fidelity[KEY_METRIC_KID_MEAN], rel=1e-10)
    assert found == pytest.approx(poly_mmd(real, generated).item(), rel=1e-10)


def test_far_outlier_does_not_drown_the_other_rows():
    """Its kernel with itself, 1e24 times theirs, is no part of the estimate."""
    real = np.array([[1e4, 0.0], [0.0, 1.0], [0.0, 2.0]])
    assert kernel_distance(real, real[1:]) == pytest.approx(by_enumeration(real, real[1:]), rel=1e-12)


def mmd_of_shifted_gaussians(d: int, shift: float) -> float:
    """Squared MMD of N(0, I) and N(shift · 1, I) from the moments of s = x·y, with E (s/d + 1)³ expanded.

    For means a and b along 1: E s = d a b, Var s = d (1 + a² + b²), and the third cumulant is d · 6 a b.
    """

    def mean_kernel(a: float, b: float) -> float:
        mean, variance, third = a * b + 1, (1 + a * a + b * b) / d, 6 * a * b / d**2
        return mean**3 + 3 * mean * variance + third

    return mean_kernel(0, 0) + mean_kernel(shift, shift) - 2 * mean_kernel(0, shift)


def test_is_unbiased_and_has_the_right_error_where_distributions_differ():
    found = np.array([kernel_distance_with_error(draw(60, 4, i), draw(40, 4, 10_000 + i, 0.4)) for i in range(400)])
    deviation = found[:, 0].std(ddof=1)
    assert found[:, 0].mean() == pytest.approx(mmd_of_shifted_gaussians(4, 0.4), abs=4 * deviation / 20)
    assert np.sqrt(np.square(found[:, 1]).mean()) == pytest.approx(deviation, rel=0.15)


def test_error_is_cautious_by_at_most_root_two_where_distributions_are_equal():
    found = np.array([kernel_distance_with_error(draw(60, 4, i), draw(60, 4, 10_000 + i)) for i in range(400)])
    ratio = np.sqrt(np.square(found[:, 1]).mean()) / found[:, 0].std(ddof=1)
    assert 0.95 < ratio < 1.15 * np.sqrt(2)


def test_error_is_that_of_leaving_rows_out_one_by_one():
    real, generated = draw(9, 3, seed=4), draw(6, 3, seed=5)
    variance = 0.0
    for without in (
        [kernel_distance(np.delete(real, i, axis=0), generated) for i in range(9)],
        [kernel_distance(real, np.delete(generated, i, axis=0)) for i in range(6)],
    ):
        variance += (len(without) - 1) * np.var(without)
    value, error = kernel_distance_with_error(real, generated)
    assert value == pytest.approx(by_enumeration(real, generated), rel=1e-12)
    assert error == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_memory_is_that_of_tiles():
    real, generated = draw(4000, 8, seed=6), draw(4000, 8, seed=7)
    tracemalloc.start()
    kernel_distance_with_error(real, generated, block_size=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One full kernel matrix would take 128 MB.
    assert peak < 5e6


def test_largest_accepted_features_stay_finite():
    large = np.full((4, 3), 1e24) * np.array([[1], [-1], [1], [-1]])
    assert np.isfinite(kernel_distance_with_error(large, -large)).all()


def test_features_are_checked():
    with pytest.raises(SimulacraError, match="real features: 1 of 2 rows"):
        kernel_distance(np.array([[np.nan], [0]]), np.zeros((2, 1)))
    with pytest.raises(SimulacraError, match="generated features have 2 rows; this metric needs at least 3"):
        kernel_distance_with_error(np.zeros((3, 1)), np.zeros((2, 1)))


def test_single_precision_loses_next_to_nothing():
    real, generated = (draw(90, 12, seed=seed).astype(np.float32) for seed in (8, 9))
    found = kernel_distance_with_error(real, generated, block_size=32)
    expected = kernel_distance_with_error(real.astype(np.float64), generated.astype(np.float64))
    assert found == pytest.approx(expected, rel=1e-6)


def test_all_pairs_vary_less_than_subsets_that_take_each_row_as_often():
    """Where distributions are equal, 25 subsets of a fifth have about twice the variance of all pairs."""
    whole, subsets = [], []
    for seed in range(200):
        real, generated = draw(100, 6, 2 * seed), draw(100, 6, 2 * seed + 1)
        whole.append(kernel_distance(real, generated))
        options = {"kid_subsets": 25, "kid_subset_size": 20, "rng_seed": seed, "verbose": False}
        found = kid_features_to_metric(torch.from_numpy(real), torch.from_numpy(generated), **options)
        subsets.append(found[KEY_METRIC_KID_MEAN])
    assert 1.4 < np.var(subsets) / np.var(whole) < 2.8

import tracemalloc

import numpy as np
import pytest
from prdc import compute_prdc

from simulacra.errors import SimulacraError
from simulacra.metrics import METRICS
from simulacra.metrics.manifold import precision_recall_density_coverage


def draw(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(
    ("real", "generated"),
    [
        (draw(300, 8, 0), draw(200, 8, 1)),
        (draw(200, 8, 2), draw(300, 8, 3, scale=0.6, shift=0.5)),
        (draw(250, 64, 4), draw(250, 64, 5, scale=1.2)),
    ],
)
def test_agrees_with_prdc(real, generated, k):
    expected = compute_prdc(real, generated, nearest_k=k)
    for block_size in (64, 1024):
        found = precision_recall_density_coverage(real, generated, k=k, block_size=block_size)
        assert found == pytest.approx(expected, rel=1e-12)
        assert set(found) <= set(METRICS)


def test_agrees_with_prdc_on_a_grid_where_distances_tie():
    """Small whole numbers: both compute distances exactly, and many neighbours lie on the boundary of a ball."""
    generator = np.random.default_rng(6)
    real, generated = generator.integers(0, 4, (2, 200, 3)).astype(np.float64)
    expected = compute_prdc(real, generated, nearest_k=5)
    assert precision_recall_density_coverage(real, generated, k=5, block_size=64) == pytest.approx(expected, rel=1e-12)


def test_four_points_on_a_line_by_hand():
    """Real 0, 1, 3 with k = 1 have radii 1, 1, 2; generated 0.5, 1.5, 9 have radii 1, 1, 7.5."""
    found = precision_recall_density_coverage(np.array([[0.0], [1], [3]]), np.array([[0.5], [1.5], [9]]), k=1)
    # 0.5 lies in the balls of 0 and 1; 1.5 in those of 1 and 3; 9 in none.
    assert found == pytest.approx({"precision": 2 / 3, "recall": 1.0, "density": 4 / 3, "coverage": 1.0})


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_copies_of_the_real_rows_have_density_one(offset):
    """Each ball then holds its centre and k − 1 neighbours; the k-th lies on the boundary, whatever rounding says."""
    real = draw(300, 32, 7) + offset
    found = precision_recall_density_coverage(real, real.copy(), k=5, block_size=128)
    assert found == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}


def test_sets_far_apart_share_nothing():
    found = precision_recall_density_coverage(draw(50, 3, 8), draw(50, 3, 9, shift=100))
    assert found == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


def test_collapse_to_one_sample_is_precise_and_covers_little():
    real = draw(200, 3, 10)
    found = precision_recall_density_coverage(real, np.tile(real[:1], (50, 1)) + 1e-3 * draw(50, 3, 11), k=5)
    assert found["precision"] == 1.0
    assert found["recall"] < 0.05
    assert found["coverage"] < 0.1


def test_balls_of_repeated_rows_are_empty():
    found = precision_recall_density_coverage(np.zeros((6, 2)), np.zeros((6, 2)), k=5)
    assert found == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


def by_differences(real, generated, k):
    """All distances in double precision, by differences, whose ties are exact."""

    def squared(first, second):
        first, second = first.astype(np.float64), second.astype(np.float64)
        return np.array([np.square(second - row).sum(axis=1) for row in first])

    radii = [np.sort(squared(each, each), axis=1)[:, k] for each in (real, generated)]
    across = squared(real, generated)
    inside = across < radii[0][:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (across < radii[1]).any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / k,
        "coverage": inside.any(axis=1).mean(),
    }


def clusters(n: int, seed: int, d: int = 6) -> np.ndarray:
    """Points so close together, and their clusters so far apart, that single precision cannot tell them apart."""
    centres = 1e3 * np.random.default_rng(0).normal(size=(4, d))
    return centres[np.arange(n) % 4] + 1e-3 * draw(n, d, seed)


@pytest.mark.parametrize(
    ("real", "generated"),
    [
        (draw(300, 40, 20).astype(np.float32), draw(200, 40, 21).astype(np.float32)),
        (clusters(120, 22), clusters(100, 23)),
        (np.repeat(draw(40, 5, 24), 6, axis=0), np.repeat(draw(30, 5, 25), 9, axis=0)),
        (np.random.default_rng(26).integers(0, 3, (200, 4)), np.random.default_rng(27).integers(0, 3, (150, 4))),
        (1e23 * draw(60, 3, 28), 1e23 * draw(50, 3, 29)),
        (1e-24 * draw(60, 3, 30), 1e-24 * draw(50, 3, 31)),
        (draw(100, 3, 32), np.zeros((40, 3))),
    ],
    ids=["single precision", "clusters", "repeats", "grid", "huge", "tiny", "one point"],
)
@pytest.mark.parametrize("block_size", [16, 1024])
def test_what_single_precision_leaves_open_is_decided_exactly(real, generated, block_size):
    found = precision_recall_density_coverage(real, generated, k=3, block_size=block_size)
    assert found == pytest.approx(by_differences(real, generated, 3), rel=1e-12)


def test_memory_is_that_of_tiles():
    real, generated = draw(4000, 8, 12), draw(4000, 8, 13)
    tracemalloc.start()
    precision_recall_density_coverage(real, generated, block_size=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One full distance matrix would take 128 MB.
    assert peak < 8e6


def test_features_and_k_are_checked():
    with pytest.raises(SimulacraError, match="generated features have 5 rows; this metric needs at least 6"):
        precision_recall_density_coverage(np.zeros((6, 2)), np.zeros((5, 2)), k=5)
    with pytest.raises(SimulacraError, match="real features: 1 of 2 rows"):
        precision_recall_density_coverage(np.array([[np.inf], [0]]), np.zeros((2, 1)), k=1)
    with pytest.raises(SimulacraError, match="k is 0"):
        precision_recall_density_coverage(np.zeros((6, 2)), np.zeros((6, 2)), k=0)

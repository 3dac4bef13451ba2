"""Directions against data whose law is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from simulacra.exploration.directions import explained_share, learn_direction, rank_correlation

RNG = np.random.default_rng(0)


def codes(n: int, d: int, seed: int) -> np.ndarray:
    """Correlated Gaussian codes with mean zero."""
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    drawn = np.random.default_rng(seed).normal(size=(n, d)) @ mixing
    return drawn - drawn.mean(axis=0)


def test_a_linear_attribute_is_read_without_error() -> None:
    weights = RNG.normal(size=6)
    direction = learn_direction(codes(300, 6, 0), codes(300, 6, 0) @ weights)
    assert direction.weights == pytest.approx(weights, rel=1e-3, abs=1e-3)
    assert explained_share(direction, codes(200, 6, 1), codes(200, 6, 1) @ weights) == pytest.approx(1, abs=1e-4)


def test_the_step_changes_the_reading_by_one_standard_deviation_and_the_rest_as_it_usually_does() -> None:
    known, weights = codes(4000, 5, 0), np.array([1.0, 0, 0, 0, 0])
    direction = learn_direction(known, known @ weights)
    reading = known @ direction.weights
    assert direction.step @ direction.weights == pytest.approx(reading.std(), rel=1e-3)
    # In a Gaussian, E[z | reading one deviation above its mean] is the regression of z on the reading.
    expected = known.T @ reading / len(known) / reading.std()
    assert direction.step == pytest.approx(expected)


def test_noise_is_not_read() -> None:
    known, judged = codes(60, 200, 0), codes(500, 200, 1)
    direction = learn_direction(known, RNG.normal(size=60))
    assert explained_share(direction, judged, RNG.normal(size=500)) < 0.1


def test_more_coordinates_than_images_are_no_obstacle() -> None:
    rng = np.random.default_rng(3)
    # Two directions hold nearly all variance of 300 coordinates, and the attribute is one of them.
    factors, basis = rng.normal(size=(400, 2)) * (5, 4), np.linalg.qr(rng.normal(size=(300, 2)))[0].T
    drawn = factors @ basis + 0.3 * rng.normal(size=(400, 300))
    direction = learn_direction(drawn[:100], factors[:100, 1])
    assert explained_share(direction, drawn[100:], factors[100:, 1]) > 0.7
    assert abs(direction.step @ basis[1]) / np.linalg.norm(direction.step) > 0.9


def test_codes_that_are_all_alike_give_no_step() -> None:
    direction = learn_direction(np.zeros((10, 3)), RNG.normal(size=10))
    assert direction.step.tolist() == [0, 0, 0]


def test_rank_correlation_is_spearman_s_averaged_over_rows() -> None:
    positions, measured = np.linspace(-3, 3, 7), RNG.normal(size=(5, 7)).round(1)
    expected = np.mean([spearmanr(positions, row).statistic for row in measured])
    assert rank_correlation(positions, measured) == pytest.approx(expected)


def test_rank_correlation_asks_for_order_only() -> None:
    positions = np.arange(5.0)
    assert rank_correlation(positions, np.exp(positions)[None]) == pytest.approx(1)
    assert rank_correlation(positions, -positions[None]) == pytest.approx(-1)
    assert rank_correlation(positions, np.array([[1.0] * 5, [0, 1, 2, 3, 4]])) == pytest.approx(0.5)

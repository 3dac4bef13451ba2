import numpy as np
import pytest

from simulacra.editing.measures import decibels, root_mean_square, share


def test_the_interval_is_wilson_s() -> None:
    found = share(np.arange(200) < 154)
    z, p, n = 1.959964, 0.77, 200
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert found == pytest.approx((p, middle - half, middle + half), abs=1e-6)
    assert share(np.ones(5, bool))[0] == 1 and share(np.ones(5, bool)).low < 0.6


def test_distances_count_pixels_from_0_to_1() -> None:
    black, white = np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8)
    assert root_mean_square(black, white) == 1 and root_mean_square(white, white) == 0
    one_off = black.copy()
    one_off[0, 0] = 51
    assert root_mean_square(one_off, black) == pytest.approx(0.2 / 6**0.5)
    assert decibels(one_off, black) == pytest.approx(-20 * np.log10(0.2 / 6**0.5))
    assert decibels(white, white) == 100

import numpy as np
import pytest

from simulacra.exploration.interpolation import linear, spherical

RNG = np.random.default_rng(0)
A, B, CENTRE = RNG.normal(size=(3, 8))


def test_both_paths_begin_and_end_at_their_codes() -> None:
    for path in (linear(A, B, 7), spherical(A, B, 7, CENTRE)):
        assert path.shape == (7, 8)
        assert path[0] == pytest.approx(A) and path[-1] == pytest.approx(B)


def test_the_line_takes_equal_steps() -> None:
    steps = np.diff(linear(A, B, 5), axis=0)
    assert steps == pytest.approx(np.tile((B - A) / 4, (4, 1)))


def test_the_arc_takes_equal_angles_at_an_even_distance_in_one_plane() -> None:
    offsets = spherical(A, B, 9, CENTRE) - CENTRE
    lengths = np.linalg.norm(offsets, axis=1)
    assert lengths == pytest.approx(np.linspace(lengths[0], lengths[-1], 9))
    units = offsets / lengths[:, None]
    angles = np.arccos((units[1:] * units[:-1]).sum(axis=1))
    assert angles == pytest.approx(angles[0])
    assert np.linalg.matrix_rank(offsets, tol=1e-9) == 2


def test_the_quarter_circle_is_one() -> None:
    path = spherical(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 3, np.zeros(2))
    assert path[1] == pytest.approx([np.sqrt(0.5), np.sqrt(0.5)])


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0])
def test_where_there_is_no_one_arc_the_path_is_the_line(factor: float) -> None:
    end = CENTRE + factor * (A - CENTRE)
    assert spherical(A, end, 5, CENTRE) == pytest.approx(linear(A, end, 5))

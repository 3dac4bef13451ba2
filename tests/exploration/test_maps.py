import numpy as np
import pytest

from simulacra.exploration.maps import map_trust, neighbour_agreement, neighbour_map, principal_map

RNG = np.random.default_rng(0)
CLUSTERS = np.repeat(np.arange(3), 20)
FAR_APART = 20 * np.eye(8)[CLUSTERS] + RNG.normal(size=(60, 8))


def test_principal_map_keeps_the_variance_it_says_it_keeps() -> None:
    codes = RNG.normal(size=(200, 5)) * (5, 3, 1, 1, 1)
    places, shares = principal_map(codes, seed=0)
    kept = places.var(axis=0, ddof=1) / codes.var(axis=0, ddof=1).sum()
    assert shares == pytest.approx(kept) and shares.sum() == pytest.approx(34 / 37, abs=0.05)


def test_tsne_keeps_neighbours_together_and_is_the_same_for_the_same_seed() -> None:
    places = neighbour_map(FAR_APART, seed=0)
    assert neighbour_agreement(places, CLUSTERS) == 1
    assert (neighbour_map(FAR_APART, seed=0) == places).all()


@pytest.mark.parametrize(("n", "d"), [(5, 3), (12, 1), (40, 300)])
def test_few_codes_one_coordinate_and_many_have_maps(n: int, d: int) -> None:
    codes = RNG.normal(size=(n, d))
    for places in (principal_map(codes, 0)[0], neighbour_map(codes, 0)):
        assert places.shape == (n, 2) and np.isfinite(places).all()
        assert 0 <= map_trust(codes, places) <= 1


def test_codes_that_are_all_alike_have_maps() -> None:
    alike = np.ones((12, 4))
    assert principal_map(alike, 0)[0] == pytest.approx(0)
    assert np.isfinite(neighbour_map(alike, 0)).all()


def test_trust_is_whole_for_the_codes_themselves_and_half_by_chance() -> None:
    plane = RNG.normal(size=(400, 2))
    assert map_trust(plane, plane) == 1
    assert map_trust(plane, RNG.normal(size=(400, 2))) == pytest.approx(0.5, abs=0.05)


def test_agreement_counts_the_nearest_other_code() -> None:
    line = np.array([[0.0], [1.0], [3.0], [3.5]])
    assert neighbour_agreement(line, np.array([0, 0, 0, 1])) == 0.5

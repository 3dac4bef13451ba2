import choix
import numpy as np
import pytest

from simulacra.human.bradley_terry import fit_strengths, is_connected


def simulated(strengths: np.ndarray, games: int, rng: np.random.Generator) -> np.ndarray:
    """Wins where each pair meets so often."""
    chances = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    wins = np.triu(rng.binomial(games, chances), 1)
    return (wins + np.tril(games - wins.T, -1)).astype(float)


def test_two_competitors_have_a_closed_form() -> None:
    """The odds are the wins' ratio, and the variance of their logarithm is 1/30 + 1/10 (the delta method)."""
    fit = fit_strengths(np.array([[0.0, 30.0], [10.0, 0.0]]))
    assert fit.values[0] - fit.values[1] == pytest.approx(np.log(3))
    reach = (fit.intervals[0, 1] - fit.intervals[0, 0]) / 2
    assert reach == pytest.approx(1.959964 * np.sqrt(1 / 30 + 1 / 10) / 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_reference_package_finds_the_same_strengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wins = simulated(rng.normal(0, 1, 6), 20, rng)
    wins[0, 1] = wins[1, 0] = 0  # a pair that never met
    fit = fit_strengths(wins)
    assert not fit.regularised
    expected = choix.mm_pairwise(6, [(i, j) for i in range(6) for j in range(6) for _ in range(int(wins[i, j]))])
    assert fit.values == pytest.approx(expected - expected.mean(), abs=1e-6)


def test_the_likelihood_is_at_its_top() -> None:
    """There each competitor has won as often as its strength lets expect (Zermelo 1929)."""
    wins = simulated(np.array([1.0, 0.3, -0.2, -1.1]), 25, np.random.default_rng(0))
    values = fit_strengths(wins).values
    expected = ((wins + wins.T) / (1 + np.exp(values[None, :] - values[:, None]))).sum(axis=1)
    assert expected - np.diag(wins + wins.T) / 2 == pytest.approx(wins.sum(axis=1), abs=1e-8)
    assert values.sum() == pytest.approx(0, abs=1e-10)


def test_a_tie_is_half_a_win_for_each() -> None:
    even = fit_strengths(np.array([[0.0, 0.5], [0.5, 0.0]]))
    assert even.values == pytest.approx([0, 0])
    # Two ties beside two wins are three wins to one.
    assert np.diff(fit_strengths(np.array([[0, 3.0], [1.0, 0]])).values)[0] == pytest.approx(-np.log(3))


@pytest.mark.parametrize(
    "wins",
    [
        [[0, 5, 5], [0, 0, 3], [0, 2, 0]],  # the first never lost
        [[0, 3, 0, 0], [2, 0, 0, 0], [0, 0, 0, 4], [0, 0, 1, 0]],  # two groups that never met
        [[0, 1], [0, 0]],
        [[0, 0], [0, 0]],
    ],
)
def test_where_no_finite_estimate_exists_half_a_win_is_added_and_said(wins: list[list[int]]) -> None:
    counts = np.array(wins, float)
    assert not is_connected(counts)
    fit = fit_strengths(counts)
    assert fit.regularised and np.isfinite(fit.values).all() and np.isfinite(fit.intervals).all()
    added = fit_strengths(counts + 0.5 * (1 - np.eye(len(counts))))
    assert not added.regularised and fit.values == pytest.approx(added.values)


def test_intervals_cover_the_true_strengths_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.8, 0.3, 0.0, -0.4, -0.7])
    hits = []
    for _ in range(400):
        low, high = fit_strengths(simulated(truth, 15, rng)).intervals.T
        hits.append((low <= truth) & (truth <= high))
    # 400 studies of 5 strengths: the standard deviation of the share is at most 0.011.
    assert 0.93 <= np.mean(hits) <= 0.98

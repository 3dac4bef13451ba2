import numpy as np
import pytest
from scipy.stats import binomtest, norm, t

from simulacra.human.clustered import clustered_share

IMAGES, RATERS = 40, 8
BOTH = [np.tile(np.arange(IMAGES), RATERS), np.repeat(np.arange(RATERS), IMAGES)]


def wilson(found: int, n: int) -> list[float]:
    return list(binomtest(found, n).proportion_ci(0.95, method="wilson"))


def test_one_answer_a_cluster_gives_wilsons_interval() -> None:
    hits = np.arange(50) < 17
    for clusters in ([np.arange(50)], [], [np.zeros(50, np.int64)], [np.arange(50), np.zeros(50, np.int64)]):
        found = clustered_share(hits, clusters)
        assert found["value"] == 0.34 and found["n"] == 50
        assert found["interval"] == pytest.approx(wilson(17, 50))


def test_clusters_whose_answers_are_all_alike_count_as_one_answer_each() -> None:
    hits, clusters = np.repeat([True, False, True, False, True, True], 30), np.repeat(np.arange(6), 30)
    rate, n, z = 4 / 6, 6 * 5 / 6, t.ppf(0.975, 5)  # the variance of six answers, corrected for their number
    middle, reach = rate + z**2 / (2 * n), z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    expected = [(middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)]
    assert clustered_share(hits, [clusters])["interval"] == pytest.approx(expected)


def test_all_or_none_and_nothing_at_all() -> None:
    assert clustered_share(np.ones(20, bool), [np.arange(20) // 5])["interval"] == pytest.approx(wilson(20, 20))
    assert clustered_share(np.zeros(20, bool), [np.arange(20) // 5])["interval"] == pytest.approx(wilson(0, 20))
    assert clustered_share(np.zeros(0, bool), []) == {"value": None, "interval": None, "n": 0}


def test_the_order_of_answers_and_the_names_of_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    hits, order = rng.random(IMAGES * RATERS) < 0.3, rng.permutation(IMAGES * RATERS)
    renamed = [rng.permutation(1000)[each] for each in BOTH]
    assert clustered_share(hits, BOTH) == clustered_share(hits[order], [each[order] for each in renamed[::-1]])


@pytest.mark.parametrize(("of_image", "of_rater"), [(0, 0), (1, 0), (1, 0.5), (0, 0.7)])
def test_intervals_cover_where_images_are_of_unequal_difficulty_and_raters_of_unequal_trust(
    of_image: float, of_rater: float
) -> None:
    """Whoever doubts more says "generated" more often: a threshold on a sum of normal numbers, whose mean is known."""
    rng, rate = np.random.default_rng(1), 0.35
    middle = norm.ppf(rate) * np.sqrt(1 + of_image**2 + of_rater**2)
    covered, too_narrow = [], []
    for _ in range(400):
        level = middle + of_image * rng.normal(size=IMAGES)[BOTH[0]] + of_rater * rng.normal(size=RATERS)[BOTH[1]]
        hits = level + rng.normal(size=len(level)) > 0
        low, high = clustered_share(hits, BOTH)["interval"]
        covered.append(low <= rate <= high)
        low, high = wilson(int(hits.sum()), len(hits))
        too_narrow.append(low <= rate <= high)
    # 400 intervals of 95 %: the standard deviation of the share that covers is 0.011.
    assert np.mean(covered) > 0.92
    assert np.mean(too_narrow) < 0.8 or of_image + of_rater == 0

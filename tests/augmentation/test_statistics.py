import numpy as np
import pytest
from scipy.stats import binom, norm, t

from simulacra.augmentation.statistics import MIN_SEEDS, Interval, paired_bootstrap, verdict
from simulacra.errors import SimulacraError

N_SEEDS, N_TEST = 5, 400


def experiment(generator: np.random.Generator, effect: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw two classifiers' answers: accuracies 0.75 and 0.75 + effect, each spread from seed to seed, rows unlike.

    A row's uniform difficulty is shared by all, and each training decides a fifth of its rows by luck.
    """
    difficulty = generator.random(N_TEST)

    def answers(accuracy: float) -> np.ndarray:
        own = generator.random((N_SEEDS, N_TEST))
        by_luck = generator.random((N_SEEDS, N_TEST)) < 0.2
        per_seed = accuracy + spread * generator.choice([-1, 1], (N_SEEDS, 1)) * generator.random((N_SEEDS, 1))
        return np.where(by_luck, own, difficulty) < per_seed

    return answers(0.75), answers(0.75 + effect)


@pytest.mark.parametrize("spread", [0.08, 0.15])
def test_interval_covers_the_known_difference(spread):
    generator = np.random.default_rng(0)
    covered = 0
    for i in range(300):
        interval = paired_bootstrap(*experiment(generator, 0.05, spread), n_resamples=1000, seed=i)
        covered += interval.low <= 0.05 <= interval.high
    assert 0.90 <= covered / 300 <= 0.99


def test_nothing_is_seldom_called_something():
    generator = np.random.default_rng(1)
    verdicts = [
        verdict(paired_bootstrap(*experiment(generator, 0.0, 0.15), n_resamples=1000, seed=i)) for i in range(300)
    ]
    assert 1 - verdicts.count("no effect") / 300 <= 0.07


def test_clear_differences_are_found_either_way():
    better, worse = experiment(np.random.default_rng(2), -0.2, 0.02)
    assert verdict(paired_bootstrap(worse, better)) == "helps"
    assert verdict(paired_bootstrap(better, worse)) == "hurts"


def test_mean_is_the_difference_of_accuracies():
    correct_a, correct_b = experiment(np.random.default_rng(3), 0.05, 0.1)
    interval = paired_bootstrap(correct_a, correct_b)
    assert interval.mean == pytest.approx(correct_b.mean() - correct_a.mean(), abs=1e-12)
    assert interval.low < interval.mean < interval.high


def test_ends_are_the_expanded_percentiles_of_resampled_rows():
    """The same bootstrap written out: indices of seeds and rows drawn one resample at a time."""
    correct_a, correct_b = experiment(np.random.default_rng(4), 0.05, 0.1)
    difference = correct_b.astype(float) - correct_a
    generator = np.random.default_rng(5)
    means = [
        difference[np.ix_(generator.integers(0, N_SEEDS, N_SEEDS), generator.integers(0, N_TEST, N_TEST))].mean()
        for _ in range(20_000)
    ]
    # At confidence 0.5 the level is well inside the distribution, where 20,000 resamples pin it down.
    level = norm.cdf(-np.sqrt(5 / 4) * t.ppf(0.75, 4))
    interval = paired_bootstrap(correct_a, correct_b, confidence=0.5, n_resamples=20_000)
    np.testing.assert_allclose(interval[1:], np.quantile(means, [level, 1 - level]), atol=0.04 * np.std(means))


def test_single_row_leaves_a_binomial_whose_tails_are_read_at_the_expanded_level():
    """Half of eight seeds gain: a resampled difference is a binomial count over eight."""
    correct_a = np.zeros((8, 1), bool)
    correct_b = np.array([1, 0, 0, 0, 1, 0, 1, 1], bool)[:, np.newaxis]
    level = norm.cdf(-np.sqrt(8 / 7) * t.ppf(0.975, 7))
    expected = binom.ppf([level, 1 - level], 8, 0.5) / 8
    assert paired_bootstrap(correct_a, correct_b, n_resamples=100_000)[1:] == pytest.approx(expected)


def test_equal_classifiers_differ_by_exactly_nothing():
    correct, _ = experiment(np.random.default_rng(6), 0.0, 0.1)
    assert paired_bootstrap(correct, correct) == Interval(0.0, 0.0, 0.0)


def test_pairing_cancels_what_both_share():
    """Rows of very unlike difficulty, classifiers that answer alike but for a constant gain."""
    generator = np.random.default_rng(7)
    correct_a = np.tile(generator.random(N_TEST) < 0.5, (N_SEEDS, 1))
    correct_b = correct_a | (generator.random(N_TEST) < 0.05)
    unpaired = np.sqrt(2 * 0.25 / N_TEST)
    interval = paired_bootstrap(correct_a, correct_b)
    assert interval.high - interval.low < 3 * unpaired


def test_same_seed_same_interval():
    pair = experiment(np.random.default_rng(8), 0.05, 0.1)
    assert paired_bootstrap(*pair, seed=3) == paired_bootstrap(*pair, seed=3)
    assert paired_bootstrap(*pair, seed=3) != paired_bootstrap(*pair, seed=4)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.1, 0.01, 0.2), "helps"),
        (Interval(-0.1, -0.2, -0.01), "hurts"),
        (Interval(0.1, -0.01, 0.2), "no effect"),
        (Interval(0.1, 0.0, 0.2), "no effect"),
        (Interval(-0.1, -0.2, 0.0), "no effect"),
    ],
)
def test_verdict_needs_an_interval_clear_of_zero(interval, expected):
    assert verdict(interval) == expected


RIGHT = np.ones((5, 3), bool)


@pytest.mark.parametrize(
    ("correct_a", "correct_b", "message"),
    [
        (RIGHT.astype(float), RIGHT, "correct_a must be booleans .* got float64"),
        (RIGHT, RIGHT[0], r"correct_b must be booleans .* of shape \(3,\)"),
        (RIGHT[:, :0], RIGHT[:, :0], r"of shape \(5, 0\)"),
        (RIGHT, RIGHT[:, :2], r"correct_a has shape \(5, 3\), correct_b \(5, 2\)"),
        (RIGHT[:4], RIGHT[:4], f"4 seeds are too few for an interval; use at least {MIN_SEEDS}"),
    ],
)
def test_arrays_that_give_no_interval_are_refused(correct_a, correct_b, message):
    with pytest.raises(SimulacraError, match=message):
        paired_bootstrap(correct_a, correct_b)


@pytest.mark.parametrize("options", [{"confidence": 1.0}, {"confidence": 0.0}, {"n_resamples": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SimulacraError, match=r"confidence is .* and n_resamples"):
        paired_bootstrap(RIGHT, RIGHT, **options)

"""Paired comparison of classifiers over seeds and rows by a two-level bootstrap (Hesterberg 2015, arXiv:1411.5279)."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

MIN_SEEDS = 5
"""Fewest seeds from which an interval is given.

No resample of n seeds' differences leaves their range, and where seeds alone vary that range misses the truth with
probability 2^(1−n): 6 % with five seeds, already 13 % with four.
"""


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval.

    Example:
        >>> verdict(Interval(mean=0.02, low=0.01, high=0.03))
        'helps'
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the difference of accuracies b − a with its confidence interval over seeds and test rows.

    Each resample draws seeds and test rows with replacement and keeps what it drew for both classifiers, so that hard
    rows and lucky seeds cancel. Few seeds make the plain percentile interval too short; its level α/2 is therefore
    replaced by Φ(−√(n/(n−1)) t_{α/2, n−1}), n the number of seeds, which is Hesterberg's expanded percentile interval.
    Resampling both ways counts the noise of single cells more than once (Owen 2007, The pigeonhole bootstrap), so the
    interval is wide rather than short where that noise prevails.

    Args:
        correct_a: whether classifier a of each seed is right about each test row, (n_seeds, n_test).
        correct_b: the same for classifier b, trained with the same seeds and judged on the same rows.
        confidence: level of the interval, between 0 and 1.
        n_resamples: number of resamples; the expanded level of five seeds, 0.1 % in each tail, needs thousands.
        seed: seed of the resampling; the same seed gives the same interval.

    Raises:
        SimulacraError: where the arrays are not boolean, not of one shape (n_seeds, n_test), empty, or come from fewer
            than `MIN_SEEDS` seeds, or a number is out of its range.
    """
    _check(correct_a, correct_b, confidence, n_resamples)
    n_seeds, n_test = correct_a.shape
    # Test rows with the same differences in all seeds are interchangeable: drawing how often each pattern occurs is the
    # same as drawing rows, and there are at most 3^n_seeds patterns.
    patterns, counts = np.unique(correct_b.astype(np.int8) - correct_a.astype(np.int8), axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    seed_weights = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples)
    row_weights = generator.multinomial(n_test, counts / n_test, size=n_resamples)
    differences = ((seed_weights @ patterns) * row_weights).sum(axis=1) / (n_seeds * n_test)
    level = _expanded_level(n_seeds, confidence)
    low, high = np.quantile(differences, [level, 1 - level])
    return Interval(float((patterns @ counts).sum() / (n_seeds * n_test)), float(low), float(high))


def verdict(interval: Interval) -> Literal["helps", "no effect", "hurts"]:
    """Return "helps" or "hurts" when the interval of b − a lies wholly above or below zero, else "no effect"."""
    if interval.low > 0:
        return "helps"
    return "hurts" if interval.high < 0 else "no effect"


def _expanded_level(n_seeds: int, confidence: float) -> float:
    """Return the tail probability Φ(−√(n/(n−1)) t_{α/2, n−1}) at which to read the bootstrap distribution."""
    from scipy.stats import norm, t

    quantile = t.ppf((1 + confidence) / 2, n_seeds - 1)
    return float(norm.cdf(-np.sqrt(n_seeds / (n_seeds - 1)) * quantile))


def _check(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], confidence: float, n_resamples: int) -> None:
    """Refuse what no interval follows from."""
    for name, array in (("correct_a", correct_a), ("correct_b", correct_b)):
        if array.dtype != np.bool_ or array.ndim != 2 or array.size == 0:
            raise SimulacraError(
                f"{name} must be booleans of shape (n_seeds, n_test), got {array.dtype} of shape {array.shape}"
            )
    if correct_a.shape != correct_b.shape:
        raise SimulacraError(
            f"correct_a has shape {correct_a.shape}, correct_b {correct_b.shape}; "
            "judge both classifiers with the same seeds on the same test rows"
        )
    if len(correct_a) < MIN_SEEDS:
        raise SimulacraError(f"{len(correct_a)} seeds are too few for an interval; use at least {MIN_SEEDS}")
    if not 0 < confidence < 1 or n_resamples < 1:
        raise SimulacraError(
            f"confidence is {confidence} and n_resamples {n_resamples}; use a level between 0 and 1, and thousands"
        )

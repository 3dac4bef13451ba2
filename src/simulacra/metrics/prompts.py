"""Prompt fidelity: whether images show the class and the words that were asked for, with confidence intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

CONFIDENCE = 0.95


def share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the share of hits, its interval by Wilson (1927) at 95 % confidence, and of how many it is; fit for JSON.

    Without any trial the share is not a number that JSON knows: `value` and `interval` are None.

    Example:
        >>> share(np.array([True] * 9 + [False]))["value"]
        0.9
    """
    from scipy.stats import binomtest

    n, found = len(hits), int(hits.sum())
    if not n:
        return {"value": None, "interval": None, "n": 0}
    interval = binomtest(found, n).proportion_ci(CONFIDENCE, method="wilson")
    return {"value": found / n, "interval": [float(interval.low), float(interval.high)], "n": n}


def prompt_fidelity(
    *, asked: Integers, seen: Integers, words: Mapping[str, tuple[str, int, int]], said: Integers, measured: Integers
) -> dict[str, Any]:
    """Return how often images show the class asked for, and each word; what chance and real images score is a third.

    Args:
        asked: class asked for, (n,).
        seen: class that a classifier sees, (n,).
        words: of each word the attribute, its column, and the side.
        said: side asked for of each attribute, (n, attributes); 0 where the prompt is silent about it.
        measured: side that is measured in the image.

    Returns:
        `classes`, `attributes` (all words taken together) and `words` (one by one), each a `share`; `spearman`, the
        rank correlation of the side asked for with the side measured, by attribute that any word is about.
    """
    hits = said == measured
    columns = {name: place for name, place, _ in words.values()}
    return {
        "classes": share(asked == seen),
        "attributes": share(hits[said > 0]),
        "words": {word: share(hits[said[:, place] == side, place]) for word, (_, place, side) in words.items()},
        "spearman": {name: _rank_correlation(said[:, place], measured[:, place]) for name, place in columns.items()},
    }


def _rank_correlation(said: Integers, measured: Integers) -> float:
    """Return Spearman's correlation where something is said; 0 where one side is always the same."""
    from scipy.stats import rankdata

    spoken = said > 0
    if not spoken.any() or min(np.ptp(said[spoken]), np.ptp(measured[spoken])) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(said[spoken]), rankdata(measured[spoken]))[0, 1])

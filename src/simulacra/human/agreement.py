"""Agreement between raters: Krippendorff's α of answers that are names.

References:
    Klaus Krippendorff, Content Analysis, 4th edition, 2018, chapter 12.
"""

import numpy as np
from numpy.typing import NDArray


def krippendorff_alpha(counts: NDArray[np.int64]) -> float | None:
    """Return α: 1 where raters agree on everything, 0 where no more than chance would have it, below where less.

    Raters need not all have judged everything: only units with two answers or more count.

    Args:
        counts: how often each answer was given to each unit, (units, answers).

    Returns:
        None where it is not defined: no unit has two answers, or all answers are the same.

    Example:
        >>> krippendorff_alpha(np.array([[2, 0], [0, 2], [1, 1]]))
        0.4444444444444444
    """
    paired = counts[counts.sum(axis=1) > 1].astype(float)
    totals = paired.sum(axis=0)
    n = totals.sum()
    expected = n * n - (totals**2).sum()
    if not expected:
        return None
    answers = paired.sum(axis=1)
    observed = ((answers**2 - (paired**2).sum(axis=1)) / (answers - 1)).sum()
    return float(1 - (n - 1) * observed / expected)

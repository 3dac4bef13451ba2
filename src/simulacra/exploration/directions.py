"""Directions among codes along which an attribute of the images changes, learnt by ridge regression."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PENALTIES = np.logspace(-5, 3, 17)
"""Ridge penalties to choose from, in multiples of the codes' mean variance a coordinate times their number."""


class Direction(NamedTuple):
    """A linear reading of an attribute from codes, and the move that changes what is read.

    Args:
        weights: (d,), the attribute is read off a code z as weights · z.
        step: (d,), the move that changes the reading by one standard deviation of it, and everything else about a code
            by what usually goes with that.
    """

    weights: Array
    step: Array


def learn_direction(codes: Array, values: Array) -> Direction:
    """Return the direction of an attribute.

    The penalty is chosen by leave-one-out error, so codes may have more coordinates than there are images. The step is
    not along the weights themselves, which tell the attribute from whatever disturbs the reading, but along the mean
    change of codes with the reading, Σ·w: it stays where codes are.

    Args:
        codes: (n, d), with mean zero.
        values: the attribute of each, (n,), with mean zero.

    References:
        Hoerl & Kennard (1970) for ridge regression; Haufe et al. (2014) for the pattern Σ·w of a linear reading w.
    """
    from sklearn.linear_model import RidgeCV

    scale = max(float((codes**2).sum()) / codes.shape[1], 1e-12)
    weights = np.asarray(RidgeCV(alphas=scale * PENALTIES, fit_intercept=False).fit(codes, values).coef_, np.float64)
    reading = codes @ weights
    spread = reading.std()
    return Direction(weights, codes.T @ reading / (len(codes) * spread) if spread > 0 else np.zeros_like(weights))


def explained_share(direction: Direction, codes: Array, values: Array) -> float:
    """Return R²: the share of an attribute's variation about zero that is read off codes it was not learnt from.

    1 is a perfect reading, 0 no better than the mean, and below 0 worse than it.
    """
    return 1 - float(((values - codes @ direction.weights) ** 2).sum() / (values**2).sum())


def rank_correlation(positions: Array, measured: Array) -> float:
    """Return Spearman's correlation of positions (k,) with what was measured there, (n, k), averaged over the n rows.

    1 means that every row rises with every step. A row that stays the same counts as 0.
    """
    from scipy.stats import rankdata

    expected = rankdata(positions) - (len(positions) + 1) / 2
    ranks = rankdata(measured, axis=1) - (len(positions) + 1) / 2
    lengths = np.sqrt((ranks**2).sum(axis=1) * (expected**2).sum())
    return float((ranks @ expected / np.where(lengths > 0, lengths, 1)).mean())

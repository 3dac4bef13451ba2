"""The Bradley–Terry model of preferences: one strength a competitor, from who was preferred to whom.

References:
    David R. Hunter, MM algorithms for generalized Bradley–Terry models, Annals of Statistics 32, 2004.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF_WIN = 0.5
"""What is added to each direction of each pair where the answers alone have no finite maximum likelihood."""
NEWTON_STEPS = 100
TOLERANCE = 1e-10
NORMAL_QUANTILE = 1.959964
"""Of 97.5 %: intervals have a confidence of 95 %."""


@dataclass(frozen=True)
class Strengths:
    """Strengths of all competitors.

    Args:
        values: log-odds against the average competitor, (n,); they sum to 0.
        intervals: of 95 % confidence, (n, 2), from the curvature of the likelihood.
        regularised: whether half a win was added everywhere, since there was no finite estimate.
    """

    values: Floats
    intervals: Floats
    regularised: bool


def fit_strengths(wins: Floats) -> Strengths:
    """Return the maximum likelihood estimate, by Newton's method.

    It is finite where from each competitor to each other there is a chain of wins (Ford 1957; Hunter 2004,
    assumption 1). Where there is none, as for one who never lost, or for groups that never met, half a win is added to
    both directions of every pair, which draws strengths together.

    Args:
        wins: how often the row was preferred to the column, (n, n); a tie is half a win for each.

    Example:
        >>> fit = fit_strengths(np.array([[0.0, 30.0], [10.0, 0.0]]))
        >>> float(np.exp(fit.values[0] - fit.values[1]).round(6)), fit.regularised
        (3.0, False)
    """
    wins = np.where(np.eye(len(wins), dtype=bool), 0.0, wins)
    regularised = not is_connected(wins)
    if regularised:
        wins = wins + HALF_WIN * (1 - np.eye(len(wins)))
    values = np.zeros(len(wins))
    for _ in range(NEWTON_STEPS):
        step = np.linalg.pinv(_information(values, wins), hermitian=True) @ _gradient(values, wins)
        while _log_likelihood(values + step, wins) < _log_likelihood(values, wins) - TOLERANCE:
            step = step / 2
        values = values + step
        if np.abs(step).max() < TOLERANCE:
            break
    covariance = np.linalg.pinv(_information(values, wins), hermitian=True)
    reach = NORMAL_QUANTILE * np.sqrt(np.diag(covariance))
    return Strengths(values, np.stack([values - reach, values + reach], axis=1), regularised)


def is_connected(wins: Floats) -> bool:
    """Tell whether from each competitor to each other there is a chain of wins."""
    from scipy.sparse.csgraph import connected_components

    parts, _ = connected_components(wins > 0, directed=True, connection="strong")
    return bool(parts == 1)


def _chances(values: Floats) -> Floats:
    """Return the probability that the row is preferred to the column."""
    from scipy.special import expit

    chances: Floats = expit(values[:, None] - values[None, :])
    return chances


def _log_likelihood(values: Floats, wins: Floats) -> float:
    return float(-(wins * np.logaddexp(0, values[None, :] - values[:, None])).sum())


def _gradient(values: Floats, wins: Floats) -> Floats:
    gradient: Floats = (wins - (wins + wins.T) * _chances(values)).sum(axis=1)
    return gradient


def _information(values: Floats, wins: Floats) -> Floats:
    """Return minus the likelihood's second derivatives: a Laplacian, singular along a shift of all strengths."""
    chances = _chances(values)
    weights = (wins + wins.T) * chances * chances.T
    information: Floats = np.diag(weights.sum(axis=1)) - weights
    return information

"""Inception score of generated samples' class probabilities (Salimans et al. 2016, arXiv:1606.03498)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import check_features

TOLERANCE = 1e-3
"""How far from one a row of probabilities may sum, which leaves room for half precision; rows are then rescaled."""


def inception_score(probabilities: ArrayLike, *, n_splits: int = 1) -> tuple[float, float]:
    """Return mean and population standard deviation over splits of exp E KL(p(y|x) ‖ p(y)), between 1 and k.

    1 means that all samples look alike to the classifier, k that it is sure of each and finds all classes equally
    often. Splits are consecutive rows: shuffle samples that are sorted by class before splitting them.

    Args:
        probabilities: (n, k), rows summing to one.
        n_splits: how many splits, between 1 and n; with one split the standard deviation is 0.

    Raises:
        SimulacraError: where there are no rows, rows hold NaN or negative numbers or do not sum to one, or there are
            more splits than rows.
    """
    checked = _check_probabilities(probabilities)
    if not 1 <= n_splits <= len(checked):
        raise SimulacraError(f"n_splits is {n_splits}; choose between 1 and the number of rows, {len(checked)}")
    scores = [_score(split) for split in np.array_split(checked, n_splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(probabilities: NDArray[np.float64]) -> float:
    """Return exp of the mean divergence of rows from their mean."""
    from scipy.special import rel_entr

    divergence = rel_entr(probabilities, probabilities.mean(axis=0)).sum(axis=1)
    return float(np.exp(divergence.mean()))


def _check_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities as float64 with rows that sum to exactly one."""
    checked = check_features(probabilities, "probabilities", minimum=1).astype(np.float64, copy=False)
    totals = checked.sum(axis=1, keepdims=True)
    bad = np.count_nonzero((checked < 0).any(axis=1) | (np.abs(totals[:, 0] - 1) > TOLERANCE))
    if bad:
        raise SimulacraError(
            f"probabilities: {bad} of {len(checked)} rows are negative somewhere or do not sum to one; "
            "pass the classifier's logits through a softmax"
        )
    rescaled: NDArray[np.float64] = checked / totals
    return rescaled

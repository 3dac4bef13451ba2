"""Vendi score: how many different items a set holds (Friedman & Dieng 2023, arXiv:2210.02410)."""

import numpy as np
from numpy.typing import ArrayLike

from simulacra.metrics.features import blocks, check_features


def vendi_score(features: ArrayLike) -> float:
    """Return the effective number of different rows of features (n, d), between 1 and n.

    It is exp of the Shannon entropy of the eigenvalues of K / n (definition 3.1), K the rows' cosine similarities: 1
    where all point the same way, n where all are orthogonal. It needs no reference and says nothing of fidelity: noise
    is diverse too. A row of zeros, which points nowhere, is alike to other rows of zeros and to nothing else.

    Raises:
        SimulacraError: where there are no rows, or some are not finite.

    Example:
        >>> vendi_score([[1, 0], [2, 0], [0, 3], [0, 1]])
        2.0
    """
    array = check_features(features, "features", minimum=1)
    # With Fᵀ F instead of K = F Fᵀ, which has the same eigenvalues but for zeros, memory does not grow with n.
    gram = np.zeros((array.shape[1], array.shape[1]))
    zeros = 0
    for _, block in blocks(array):
        norms = np.linalg.norm(block, axis=1)
        zeros += int(np.count_nonzero(norms == 0))
        directions = block[norms > 0] / norms[norms > 0, np.newaxis]
        gram += directions.T @ directions
    shares = np.append(np.linalg.eigvalsh(gram), zeros) / len(array)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))

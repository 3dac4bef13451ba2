"""Memorisation: whether generated samples are copies of training ones, by their nearest neighbours there."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import Array, check_feature_pair, check_features

FloatArray = NDArray[np.float64]

FLOOR = 0.01
"""Share of new data that lies within the limit below which a sample counts as memorised."""


class Neighbours(NamedTuple):
    """For every row of some features its nearest row of others: how far it is, and which."""

    distances: FloatArray
    rows: NDArray[np.int64]


def nearest(features: ArrayLike, train: ArrayLike) -> Neighbours:
    """Return the nearest training row of every row of features, by Euclidean distance.

    Raises:
        SimulacraError: where either array has no rows, is not finite, or their dimensions differ.
    """
    train, features = check_feature_pair(train, features, minimum=1)
    distances, rows = _neighbours(train, features, 1)
    return Neighbours(distances[:, 0], rows[:, 0])


def authenticity(train: ArrayLike, generated: ArrayLike) -> float:
    """Return the share of generated features that are no nearer to a training one than its own neighbour is.

    A sample is a copy in the sense of Alaa et al. (2022), arXiv:2102.08921, section 3.3, where it lies nearer to the
    training row nearest to it than any other training row does. New data score below 1 by this rule: compare with
    held-out real data.

    Raises:
        SimulacraError: where there are fewer than two training rows or no generated ones, some are not finite, or their
            dimensions differ.

    Example:
        >>> authenticity([[0.0], [1.0], [5.0]], [[0.1], [3.0], [9.0]])
        0.6666666666666666
    """
    found = nearest(generated, train)
    train = check_features(train, "training features")
    rows, places = np.unique(found.rows, return_inverse=True)
    # The nearest of all is the row itself, or its double, at no distance.
    distances, _ = _neighbours(train, train[rows], 2)
    return float((found.distances >= distances[places, 1]).mean())


def memorised_share(train: ArrayLike, held_out: ArrayLike, generated: ArrayLike, *, floor: float = FLOOR) -> float:
    """Return the share of generated features that lie nearer to the training set than new data do, all but a `floor`.

    The limit is the distance to the training set that a share `floor` of held-out real rows do not exceed. A model
    that samples the true distribution scores about `floor`, one that copies training rows 1.

    Raises:
        SimulacraError: where `floor` does not lie between 0 and 1 or is below the share of a single held-out row, or an
            array has no rows, is not finite, or its dimensions differ from the others'.
    """
    limits = np.sort(nearest(held_out, train).distances)
    if not 1 / len(limits) <= floor < 1:
        raise SimulacraError(
            f"memorised_share has {len(limits)} held-out rows, of which a share of {floor:g} is to lie within its "
            f"limit; that must be one row at least, and not all: bring {int(np.ceil(1 / max(floor, 1e-9)))} rows"
        )
    limit = limits[int(floor * len(limits)) - 1]
    return float((nearest(generated, train).distances <= limit).mean())


def _neighbours(train: Array, features: Array, k: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return distances (n, k) to the nearest training rows, ascending, and which those are."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train.astype(np.float64, copy=False))
    distances, rows = search.kneighbors(features.astype(np.float64, copy=False))
    return distances, rows

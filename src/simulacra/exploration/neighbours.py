"""Samples beside the training images that they are nearest to, which lets anyone see whether they are copies."""

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.exploration.panels import Panel
from simulacra.metrics.features import FeatureExtractor
from simulacra.metrics.memorisation import nearest

SHOWN = 10
"""Samples of each kind."""


def beside_training(samples: ImageSet, train: ImageSet, extractor: FeatureExtractor) -> Panel:
    """Return the samples that lie nearest to training images, and the first ones, each above its training image.

    Below the nearest stands how far they are from it, in units of how far that image is from its own neighbour.
    """
    features, known = extractor.features(samples.images), extractor.features(train.images)
    found = nearest(features, known)
    rank = np.argsort(found.distances, kind="stable")[:SHOWN]
    first = np.arange(min(SHOWN, len(samples)))
    own = _own_distances(known, found.rows[rank])
    # An image with a double has no distance of its own to measure by.
    pairs = zip(found.distances[rank], own, strict=True)
    ratios = [f"{distance / unit:.2f}" if unit else "double" for distance, unit in pairs]
    rows = [part for picks in (first, rank) for part in (samples.images[picks], train.images[found.rows[picks]])]
    return Panel(
        "neighbours",
        "Samples above the training images nearest to them",
        "On top the first samples that were drawn, below them those nearest to any training image, each above "
        "the training image nearest to it. Numbers: how far the latter are from it, in units of how far that one is "
        "from its own nearest neighbour; well below 1 is a copy.",
        ("first samples", "training", "nearest samples", "training"),
        ("",) * len(rank),
        np.stack(rows),
        rows_apart=(2,),
        footer=tuple(ratios),
    )


def _own_distances(known: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each of some training images is from the nearest other one."""
    return np.array([nearest(known[[row]], np.delete(known, row, axis=0)).distances[0] for row in rows])

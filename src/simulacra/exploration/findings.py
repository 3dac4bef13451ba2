"""What one tool found, and how its figures read."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.panels import Panel

Array = NDArray[np.float64]

POSITIONS = 7
"""Pictures on a slider; the middle one is where the image itself is."""


class Findings(NamedTuple):
    """What one tool found: figures by metric key, tables of pictures, and why there are none where that is so."""

    metrics: dict[str, float]
    panels: list[Panel]
    omitted: dict[str, str]


def slider_positions(config: ExplorationConfig) -> Array:
    """Return how many standard deviations each picture of a slider is moved."""
    return np.linspace(-config.reach, config.reach, POSITIONS)


def step_name(position: float) -> str:
    """Return a position on a slider as a signed number."""
    return f"{position:+.2g}".replace("-", "−") if position else "0"


def class_name(images: ImageSet, row: int) -> str:
    """Return the class of one image; nothing where images carry no classes."""
    return "" if images.labels is None else images.class_names[images.labels[row]]


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with a true minus sign, and no negative zero."""
    return f"{value:z.{decimals}f}".replace("-", "−")


def percent(share: float) -> str:
    """Return a share in whole percent."""
    return f"{signed(100 * share, 0)} %"

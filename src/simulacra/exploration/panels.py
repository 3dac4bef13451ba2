"""Tables of pictures, and how they are kept: all pixels in one image set, the rest as plain JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet


@dataclass(frozen=True)
class Panel:
    """One table of pictures.

    Args:
        figure: the figure that it belongs to.
        title: a few words.
        caption: what a newcomer sees here.
        rows: one label a row; may be empty strings.
        columns: one label a column.
        images: (rows, columns, channels, height, width), uint8.
        apart: columns before which a gap is left.
        rows_apart: rows above which a gap is left.
        footer: one label below each column, or none at all.
    """

    figure: str
    title: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    images: NDArray[np.uint8]
    apart: tuple[int, ...] = ()
    rows_apart: tuple[int, ...] = ()
    footer: tuple[str, ...] = ()

    def words(self) -> dict[str, Any]:
        """Return all but the pixels, fit for JSON."""
        words = {key: value for key, value in vars(self).items() if key != "images"}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in words.items()}


def pack(panels: Iterable[Panel], shape: tuple[int, int, int]) -> tuple[ImageSet, list[dict[str, Any]]]:
    """Return the pixels of all panels in one set of images of the given shape, and their words."""
    panels = list(panels)
    pixels = [panel.images.reshape(-1, *shape) for panel in panels]
    together = np.concatenate([np.empty((0, *shape), np.uint8), *pixels])
    return ImageSet(together), [panel.words() for panel in panels]


def unpack(words: Sequence[Mapping[str, Any]], pixels: ImageSet) -> list[Panel]:
    """Return the panels that `pack` took."""
    panels, place = [], 0
    for entry in words:
        said: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in entry.items()}
        down, across = len(said["rows"]), len(said["columns"])
        images = pixels.images[place : place + down * across].reshape(down, across, *pixels.shape)
        panels.append(Panel(images=images, **said))
        place += down * across
    return panels

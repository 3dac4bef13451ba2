"""Which part of an image is filled."""

import numpy as np
from numpy.typing import NDArray

from simulacra.editing.config import MASKS, Box
from simulacra.errors import SimulacraError

Mask = NDArray[np.bool_]
GREY = 128
"""What stands for the hole in a picture."""


def box_mask(box: Box, height: int, width: int) -> Mask:
    """Return true inside a box of top, left, height and width, (height, width).

    Numbers that are all 1 at most are shares of the sides; otherwise they are pixels. Edges are rounded.

    Raises:
        SimulacraError: where the box reaches out of the image.

    Example:
        >>> box_mask((0.5, 0, 0.5, 1), 4, 2).tolist()
        [[False, False], [False, False], [True, True], [True, True]]
    """
    sides = (height, width, height, width)
    top, left, down, across = (n * side for n, side in zip(box, sides, strict=True)) if max(box) <= 1 else box
    if top + down > height + 0.5 or left + across > width + 0.5:
        raise SimulacraError(
            f"editing.box {list(box)} reaches out of images of {height}×{width} pixels: it is top, left, height, width"
        )
    mask = np.zeros((height, width), bool)
    mask[round(top) : round(top + down), round(left) : round(left + across)] = True
    return mask


def named_mask(name: str, height: int, width: int) -> Mask:
    """Return the mask of a name."""
    return box_mask(MASKS[name], height, width)


def checked(mask: Mask, what: str) -> Mask:
    """Return a mask that leaves something to do, and something to go by.

    Raises:
        SimulacraError: for a mask that holds nothing or everything.
    """
    if not mask.any():
        raise SimulacraError(f"{what} marks no pixel to fill: paint the part to fill white, or choose another mask")
    if mask.all():
        raise SimulacraError(f"{what} marks every pixel, so that nothing is left to go by: leave a part black")
    return mask


def with_hole(images: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """Return images (n, channels, height, width) with grey where they are to be filled."""
    return np.where(mask, np.uint8(GREY), images)

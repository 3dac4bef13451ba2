import numpy as np
import pytest

from simulacra.editing.config import MASKS
from simulacra.editing.masks import box_mask, checked, named_mask, with_hole
from simulacra.errors import SimulacraError


@pytest.mark.parametrize("side", [8, 12, 28, 33])
@pytest.mark.parametrize("name", MASKS)
def test_every_named_mask_leaves_something_and_takes_something(name: str, side: int) -> None:
    mask = checked(named_mask(name, side, side), name)
    expected = MASKS[name][2] * MASKS[name][3]
    assert mask.shape == (side, side) and mask.mean() == pytest.approx(expected, abs=2 / side)


def test_a_box_is_in_shares_or_in_pixels() -> None:
    assert np.array_equal(box_mask((0.25, 0.5, 0.25, 0.5), 8, 8), box_mask((2, 4, 2, 4), 8, 8))
    assert np.flatnonzero(box_mask((2, 4, 2, 4), 8, 8)).tolist() == [20, 21, 22, 23, 28, 29, 30, 31]


def test_a_box_must_lie_within_the_image_and_a_mask_must_leave_something_to_do() -> None:
    with pytest.raises(SimulacraError, match=r"editing.box \[4, 4, 6, 2\] reaches out of images of 8×8 pixels"):
        box_mask((4, 4, 6, 2), 8, 8)
    with pytest.raises(SimulacraError, match="mine marks no pixel to fill"):
        checked(np.zeros((4, 4), bool), "mine")
    with pytest.raises(SimulacraError, match="mine marks every pixel"):
        checked(np.ones((4, 4), bool), "mine")


def test_a_hole_is_grey_in_every_channel_and_nothing_else_changes() -> None:
    images, mask = np.full((2, 3, 8, 8), 7, np.uint8), named_mask("top", 8, 8)
    shown = with_hole(images, mask)
    assert (shown[:, :, :4] == 128).all() and (shown[:, :, 4:] == 7).all() and shown.dtype == np.uint8

import pytest
import torch
from torch import Tensor

from simulacra.nn.augment import (
    AUGMENTATIONS,
    DRAWS,
    augmented,
    brightness,
    contrast,
    cutout,
    saturation,
    translation,
)

GENERATOR = torch.Generator().manual_seed(0)
GREY = torch.rand(50, 1, 12, 16, generator=GENERATOR) * 2 - 1
COLOURED = torch.rand(50, 3, 9, 13, generator=GENERATOR) * 2 - 1
UNIFORM = torch.rand(50, DRAWS, generator=GENERATOR)
EVERY = ["color", "translation", "cutout"]


def test_brightness_adds_one_number_an_image() -> None:
    added = (brightness(COLOURED, UNIFORM[:, 0]) - COLOURED).flatten(1)
    torch.testing.assert_close(added, (UNIFORM[:, :1] - 0.5).expand_as(added), atol=1e-6, rtol=0)


def test_saturation_moves_colours_about_their_grey_and_leaves_grey_images() -> None:
    moved = saturation(COLOURED, UNIFORM[:, 0])
    torch.testing.assert_close(moved.mean(1), COLOURED.mean(1))
    torch.testing.assert_close(moved.var(1), COLOURED.var(1) * (2 * UNIFORM[:, 0, None, None]).square())
    torch.testing.assert_close(saturation(GREY, UNIFORM[:, 0]), GREY)


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    moved = contrast(COLOURED, UNIFORM[:, 0]).flatten(1)
    torch.testing.assert_close(moved.mean(1), COLOURED.flatten(1).mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.std(1), COLOURED.flatten(1).std(1) * (UNIFORM[:, 0] + 0.5))


@pytest.mark.parametrize("size", [(12, 16), (28, 28), (9, 8), (3, 3)])
def test_translation_moves_whole_pixels_by_an_eighth_at_most_and_fills_with_zeros(size: tuple[int, int]) -> None:
    places = torch.cartesian_prod(*[(torch.arange(40) + 0.5) / 40] * 2)
    height, width = size
    x = torch.ones(len(places), 2, height, width)
    x[:, 1, height // 2, width // 2] = 5
    moved = translation(x, places)
    rows, columns = (moved[:, 1].flatten(1).argmax(1) // width), (moved[:, 1].flatten(1).argmax(1) % width)
    for found, side in ((rows, height), (columns, width)):
        most = round(side / 8)
        assert set((found - side // 2).tolist()) == set(range(-most, most + 1)), "all shifts, both ways"
    kept = (height - (rows - height // 2).abs()) * (width - (columns - width // 2).abs())
    assert torch.equal(moved[:, 0].sum((1, 2)), kept.float()), "what moved out is gone, what came in is zero"


@pytest.mark.parametrize("size", [(12, 16), (28, 28), (9, 7)])
def test_cutout_zeroes_one_rectangle_of_half_the_sides(size: tuple[int, int]) -> None:
    places = torch.cartesian_prod(*[(torch.arange(40) + 0.5) / 40] * 2)
    height, width = size
    cut = cutout(torch.ones(len(places), 1, height, width), places)[:, 0] == 0
    rows, columns = cut.any(2), cut.any(1)
    assert torch.equal(cut, rows[:, :, None] & columns[:, None, :])
    assert (rows.sum(1) <= round(height / 2)).all() and rows.sum(1).max() == round(height / 2)
    assert (rows.sum(1) > 0).all() and (columns.sum(1) > 0).all()
    assert rows.any(0).all() and columns.any(0).all(), "every pixel is cut at some place"


@pytest.mark.parametrize("x", [GREY, COLOURED], ids=["grey", "coloured"])
@pytest.mark.parametrize("kinds", [[kind] for kind in EVERY] + [EVERY], ids="+".join)
def test_gradients_flow_through_to_the_images(x: Tensor, kinds: list[str]) -> None:
    few, uniform = x[:2, :, :4, :4].double(), UNIFORM[:2].double()
    few.requires_grad_()
    assert torch.autograd.gradcheck(lambda images: augmented(images, uniform, kinds), few)
    assert torch.autograd.gradgradcheck(lambda images: augmented(images, uniform, kinds), few)


def test_an_image_s_augmentation_depends_on_its_own_numbers_only() -> None:
    together = augmented(COLOURED, UNIFORM, EVERY)
    alone = torch.cat([augmented(COLOURED[i : i + 1], UNIFORM[i : i + 1], EVERY) for i in range(len(COLOURED))])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together, augmented(COLOURED, UNIFORM, EVERY))


def test_each_kind_takes_numbers_that_no_other_takes() -> None:
    columns = [number for _, taken in AUGMENTATIONS.values() for number in range(DRAWS)[taken]]
    assert sorted(columns) == list(range(DRAWS))
    other = UNIFORM.clone()
    other[:, 0:5] = torch.rand(50, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augmented(GREY, UNIFORM, ["cutout"]), augmented(GREY, other, ["cutout"]))


def test_without_kinds_images_stay_as_they_are() -> None:
    assert augmented(GREY, UNIFORM, []) is GREY

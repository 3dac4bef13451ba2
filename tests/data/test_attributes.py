"""What is measured of images, against shapes whose slant and width are known."""

import numpy as np
import pytest

from simulacra.data.attributes import ATTRIBUTES, brightness, slant, thickness


def bar(width: float, lean: float = 0.0, *, size: int = 41, length: float = 24.0, level: int = 255) -> np.ndarray:
    """One soft-edged bar that leans to the right by so many degrees, (1, 1, size, size)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    across = x + np.tan(np.radians(lean)) * y
    ink = np.clip(width / 2 + 0.5 - np.abs(across), 0, 1) * np.clip(length / 2 + 0.5 - np.abs(y), 0, 1)
    return np.rint(level * ink).astype(np.uint8)[None, None]


@pytest.mark.parametrize("lean", [-35, -10, 0, 20, 40])
def test_slant_is_the_angle_of_the_shear(lean: float) -> None:
    assert slant(bar(4, lean)) == pytest.approx(lean, abs=0.5)


def test_slant_does_not_depend_on_place_polarity_or_colour() -> None:
    image = bar(4, 20)
    moved = np.roll(image, (3, -5), axis=(2, 3))
    coloured = np.repeat(image, 3, axis=1)
    for same in (moved, 255 - image, coloured):
        assert slant(same) == pytest.approx(slant(image), abs=0.1)


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_thickness_is_twice_the_area_over_the_outline(width: int) -> None:
    length = 24
    # A rectangle's outline is 2(w + l); soft corners cost it little.
    assert thickness(bar(width)) == pytest.approx(width * length / (width + length), rel=0.05)


def test_thickness_grows_with_the_stroke_wherever_it_leans() -> None:
    for lean in (0, 30):
        measured = [thickness(bar(width, lean))[0] for width in (1, 1.5, 2, 3, 4.5)]
        assert measured == sorted(measured) and measured[-1] > 3 * measured[0]


def test_brightness_is_in_percent_of_white() -> None:
    images = np.stack([np.zeros((3, 4, 4)), np.full((3, 4, 4), 255), np.full((3, 4, 4), 51)]).astype(np.uint8)
    assert brightness(images) == pytest.approx([0, 100, 20])


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_every_attribute_is_one_finite_number_an_image(name: str) -> None:
    rng = np.random.default_rng(0)
    blank, noise = np.zeros((2, 1, 5, 7), np.uint8), rng.integers(0, 256, (4, 3, 5, 7), np.uint8)
    for images in (blank, 255 - blank, noise, noise[:, :, :1, :1]):
        measured = ATTRIBUTES[name].measure(images)
        assert measured.shape == (len(images),) and np.isfinite(measured).all()
    if name != "brightness":
        assert ATTRIBUTES[name].measure(blank).tolist() == [0, 0]

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from simulacra.metrics.preparation import DINOV2, EFFICIENTNET, INCEPTION, PLAIN, resize_like_tf1, resize_square


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (299, 299), (300, 400), (511, 64), (1, 1), (2, 7)])
def test_resizer_of_fid_is_torch_fidelity_s_to_the_last_bit(shape: tuple[int, int]) -> None:
    images = noise(2, 3, *shape)
    expected = interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    assert torch.equal(resize_like_tf1(images, 299), expected)


def test_resizer_of_fid_goes_by_corners_and_does_not_smooth() -> None:
    """Worked by hand: places 0, ½, 1, 1½ of two pixels; of sixteen pixels every fourth."""
    pair = torch.tensor([[[[0.0, 8.0]]]])
    assert resize_like_tf1(pair, 4)[0, 0, 0].tolist() == [0, 4, 8, 8]
    many = torch.arange(16.0).expand(1, 1, 16, 16)
    assert resize_like_tf1(many, 4)[0, 0, 0].tolist() == [0, 4, 8, 12]


@pytest.mark.parametrize(("mode", "filtering"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (300, 300), (280, 350), (301, 260)])
def test_other_resizer_is_pillow_s_of_the_centred_square(
    mode: str, filtering: Image.Resampling, height: int, width: int
) -> None:
    """To 1.2 grey levels: Pillow rounds after rows, which cubic weights enlarge by 1.3 at most, and after columns.

    It cuts off there too, so that the pixels keep away from the ends of the range.
    """
    image = (96 + noise(1, 1, height, width) / 4).round()
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    picture = Image.fromarray(image[0, 0].numpy().astype(np.uint8)).crop((left, top, left + side, top + side))
    expected = np.asarray(picture.resize((224, 224), filtering), np.float32)
    found = resize_square(image, 224, mode)[0, 0].numpy()
    assert np.abs(found - expected).max() <= 1.2


def test_cubic_swings_end_at_the_ends_of_the_range() -> None:
    found = resize_square(255.0 * (noise(1, 1, 28, 28) > 127), 224, "bicubic")
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize("preparation", [EFFICIENTNET, INCEPTION, DINOV2])
def test_constant_images_stay_so_and_grey_ones_get_three_channels(preparation: object) -> None:
    for value in (0, 127, 255):
        grey = torch.full((2, 1, 20, 20), float(value))
        found = preparation.apply(grey)
        assert found.shape[:2] == (2, 3)
        assert torch.equal(found, preparation.apply(grey.expand(-1, 3, -1, -1)))
        assert (found[0].amax((1, 2)) - found[0].amin((1, 2))).max() < 1e-5


def test_ranges_are_those_of_the_networks() -> None:
    """Worked by hand, at the ends of the range and where the networks have their nought; red, green, blue."""

    def values(preparation: object, *pixel: float) -> list[float]:
        image = torch.tensor(pixel, dtype=torch.float32)[None, :, None, None].expand(1, len(pixel), 9, 9)
        return preparation.apply(image)[0, :, 0, 0].tolist()

    assert values(EFFICIENTNET, 0, 127, 255) == [-127 / 128, 0, 1]
    assert values(INCEPTION, 0, 128, 255) == [-1, 0, 127 / 128]
    assert values(PLAIN, 0, 127.5, 255) == [-1, 0, 1]
    expected = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert values(DINOV2, 0, 51, 255) == pytest.approx(expected, abs=1e-6)


def test_sizes_are_those_of_the_networks() -> None:
    assert [tuple(each.apply(noise(1, 3, 40, 30)).shape) for each in (EFFICIENTNET, INCEPTION, DINOV2)] == [
        (1, 3, 224, 224),
        (1, 3, 299, 299),
        (1, 3, 224, 224),
    ]

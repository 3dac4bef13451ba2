from typing import Any

import pytest
import torch
from torch import Tensor

from simulacra.nn.masked import GatedStack, HorizontalConv, PixelByPixel, VerticalConv
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded


def stack(shape: tuple[int, int, int] = (1, 6, 5), n_layers: int = 5, **changes: Any) -> GatedStack:
    sizes = {"width": 6, "kernel": 3, "first_kernel": 5, "n_classes": 3, "templates": 2, "features": 7}
    with seeded(0):
        made = GatedStack(shape, n_layers=n_layers, **sizes | changes)
        torch.nn.init.normal_(made.templates)  # zero at first, which would hide a mistake
    return made


def images(n: int, *shape: int) -> Tensor:
    return 2 * Noise(1).uniform(n, *shape) - 1


def influences(output: Tensor, x: Tensor) -> Tensor:
    """Which pixels of x an output depends on, (h, w)."""
    (gradient,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
    return gradient.abs().sum(dim=(0, 1)) > 0


@pytest.mark.parametrize("dilations", [(1,), (1, 2)])
def test_a_pixel_depends_on_exactly_all_pixels_before_it(dilations: tuple[int, ...]) -> None:
    """No blind spot, and nothing of the pixel itself or later."""
    x = images(2, 2, 6, 5).requires_grad_()
    features = stack((2, 6, 5), dilations=dilations)(x, torch.tensor([0, 2]))
    before = torch.zeros(6, 5, dtype=torch.bool)
    for row in range(6):
        for column in range(5):
            assert torch.equal(influences(features[:, :, row, column], x), before), (row, column)
            before[row, column] = True


@pytest.mark.parametrize("strict", [True, False])
def test_kernels_see_what_their_mask_leaves(strict: bool) -> None:
    x = images(1, 1, 7, 7).requires_grad_()
    vertical, horizontal = torch.zeros(2, 7, 7, dtype=torch.bool)
    vertical[1 : 3 + (not strict), 1:6] = True
    horizontal[3, 1 : 3 + (not strict)] = True
    assert torch.equal(influences(VerticalConv(1, 2, 5, strict=strict)(x)[:, :, 3, 3], x), vertical)
    assert torch.equal(influences(HorizontalConv(1, 2, 5, strict=strict)(x)[:, :, 3, 3], x), horizontal)


@pytest.mark.parametrize("strict", [True, False])
def test_dilated_kernels_see_every_second_pixel(strict: bool) -> None:
    x = images(1, 1, 7, 7).requires_grad_()
    vertical, horizontal = torch.zeros(2, 7, 7, dtype=torch.bool)
    vertical[1 : 3 + (not strict) : 2, 1:6:2] = True
    horizontal[3, 1 : 3 + (not strict) : 2] = True
    seen = VerticalConv(1, 2, 3, strict=strict, dilation=2)(x), HorizontalConv(1, 2, 3, strict=strict, dilation=2)(x)
    assert torch.equal(influences(seen[0][:, :, 3, 3], x), vertical)
    assert torch.equal(influences(seen[1][:, :, 3, 3], x), horizontal)


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((1, 6, 5), {}),
        ((1, 7, 9), {"dilations": (1, 2, 4)}),
        ((2, 9, 6), {"dilations": (1, 3), "kernel": 5}),
        ((3, 4, 7), {"first_kernel": 7, "n_layers": 2}),
        ((1, 5, 5), {"kernel": 5, "first_kernel": 3, "n_layers": 3}),
        ((2, 3, 4), {"n_classes": 0, "n_layers": 1}),
        ((1, 1, 1), {}),
    ],
)
def test_pixel_by_pixel_is_what_the_whole_forward_pass_gives(
    shape: tuple[int, int, int], changes: dict[str, Any]
) -> None:
    net, y, x = stack(shape, **changes), torch.tensor([2, 0, 1, 1]), images(4, *shape)
    with torch.inference_mode():
        expected, walk = net(x, y), PixelByPixel(net, y)
        for row in range(shape[1]):
            walk.begin_row(row)
            for column in range(shape[2]):
                torch.testing.assert_close(walk.features(), expected[:, :, row, column], atol=1e-6, rtol=1e-5)
                walk.put(x[:, :, row, column])
    assert torch.equal(walk.pixels, x)


def test_the_class_matters_in_every_layer_and_only_with_classes() -> None:
    x, first, second = images(2, 1, 6, 5), torch.tensor([0, 0]), torch.tensor([1, 1])
    for number in range(2):
        net = stack(n_layers=2)
        torch.nn.init.zeros_(net.templates)
        for other, layer in enumerate(net.layers):
            if other != number:
                torch.nn.init.zeros_(layer.bias)
        assert not torch.equal(net(x, first), net(x, second))
    without = stack(n_classes=0)
    assert torch.equal(without(x, first), without(x, second)) and torch.equal(without(x, first), without(x, None))


def test_every_parameter_learns() -> None:
    net = stack()
    net(images(6, 1, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])).square().sum().backward()
    # The last layer's vertical stack feeds its own link, so that even it is of use.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_channels_last_memory_gives_the_same_features() -> None:
    net, x, y = stack(), images(3, 1, 6, 5), torch.tensor([0, 1, 2])
    expected = net(x, y)
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(x, y), expected)


def test_activations_stay_in_the_precision_of_the_convolutions() -> None:
    net = stack()
    with torch.autocast("cpu", torch.bfloat16):
        v, h = net.vertical(images(2, 4, 6, 5)), net.horizontal(images(2, 4, 6, 5))
        assert {part.dtype for part in net.layers[0](v, h, torch.tensor([0, 1]))} == {torch.bfloat16}

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simulacra.nn.unet import Block, ClassEmbedding, UNet, sinusoids, waves
from simulacra.training.seeding import seeded


def network(channels: int = 1, **options: Any) -> UNet:
    """A small network whose zeroed layers were moved, so that everything has an effect."""
    with seeded(0):
        made = UNet(channels, **{"width": 8, "heads": 2, "condition_dim": 5} | options)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.1)
    return made


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(28, 28), (7, 13), (9, 9), (32, 20), (4, 4)])
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 2, 2)])
def test_every_size_comes_out_as_it_went_in(size: tuple[int, int], patch: int, multipliers: tuple[int, ...]) -> None:
    x = images(2, 3, *size)
    out = network(3, patch=patch, multipliers=multipliers)(x, torch.rand(2), torch.zeros(2, 5))
    assert out.shape == x.shape and torch.isfinite(out).all()


def test_28_pixels_are_halved_twice() -> None:
    net, sizes = network(multipliers=(1, 2, 2)), []
    net.attention.register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape[2:])))
    net(images(1, 1, 28, 28), torch.zeros(1))
    assert sizes == [(7, 7)]


def test_it_begins_with_the_answer_zero() -> None:
    net = UNet(1, width=8)
    assert (net(images(2, 1, 8, 8), torch.zeros(2)) == 0).all()


def test_time_condition_and_each_pixel_matter() -> None:
    net, x = network(), images(1, 1, 8, 8).requires_grad_()
    told = torch.zeros(1, 5)
    out = net(x, torch.tensor([0.3]), told)
    assert not torch.allclose(out, net(x, torch.tensor([0.301]), told), atol=1e-6)
    assert not torch.allclose(out, net(x, torch.tensor([0.3]), told + 1))
    (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], x)
    assert (gradient != 0).all(), "attention sees the whole image"
    with torch.no_grad():
        torch.testing.assert_close(out, net(x, torch.tensor([0.3])) + (out - net(x, torch.tensor([0.3]))))


def test_images_of_a_batch_know_nothing_of_each_other() -> None:
    net, x, clock, told = network(), images(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9]), images(3, 5)
    together = net(x, clock, told)
    for i in range(3):
        torch.testing.assert_close(net(x[i : i + 1], clock[i : i + 1], told[i : i + 1]), together[i : i + 1])


def test_grey_levels_near_white_are_told_apart_in_bf16() -> None:
    """In bf16 1 and 1 − 1/1000 are the same number; the first convolution must see them as they are."""
    net = network()
    white = torch.ones(1, 1, 8, 8)
    nearly = white - 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        seen = [capture(net, x) for x in (white, nearly)]
    assert white.bfloat16().equal(nearly.bfloat16()) and seen[0].dtype == torch.float32
    assert not torch.equal(*seen)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(white, torch.zeros(1)).dtype == torch.float32


def capture(net: UNet, x: Tensor) -> Tensor:
    """What the first convolution makes of an image."""
    kept: list[Tensor] = []
    handle = net.stem.register_forward_hook(lambda module, given, out: kept.append(out))
    net(x, torch.zeros(len(x)))
    handle.remove()
    return kept[0]


def test_bf16_and_channels_last_answer_alike() -> None:
    net, x, clock = network(multipliers=(1, 2)), images(4, 1, 28, 28), torch.linspace(0, 1, 4)
    plain = net(x, clock)
    net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        quick = net(x, clock)
    assert ((quick - plain).std() / plain.std()).item() < 0.03


def test_a_block_begins_as_the_identity() -> None:
    x = images(2, 4, 5, 5)
    assert torch.equal(Block(4, told=6)(x, images(2, 6)), x)


def test_fine_detail_makes_a_grey_level_a_large_difference() -> None:
    x = torch.tensor([-1.0, -1.0 + 2 / 255]).reshape(2, 1)
    found = waves(x, (3, 7))
    assert found.shape == (2, 4)
    assert float((found[0] - found[1]).norm()) > 1
    assert found[1, :2].tolist() == pytest.approx(
        [math.sin(8 * math.pi * -253 / 255), math.cos(8 * math.pi * -253 / 255)], abs=1e-5
    )
    assert network(2, detail=(5, 7))(images(1, 2, 9, 9), torch.zeros(1)).shape == (1, 2, 9, 9)


def test_sinusoids_tell_all_times_apart() -> None:
    found = sinusoids(torch.linspace(0, 1, 1001), 32)
    assert found.shape == (1001, 32) and found.abs().max() <= 1
    distances = torch.cdist(found, found) + 10 * torch.eye(1001)
    assert distances.min() > 0.1
    assert float(found[500, 16]) == pytest.approx(math.sin(500), abs=1e-3)


def test_the_null_class_has_a_vector_of_its_own() -> None:
    classes = ClassEmbedding(3, 4)
    assert classes.null(2).tolist() == [3, 3] and classes.table.num_embeddings == 4
    assert not torch.equal(classes(classes.null(1)), classes(torch.tensor([2])))


def test_the_size_for_a_gpu_is_that_of_the_peers_it_is_raced_with() -> None:
    net = UNet(1, width=48, multipliers=(1, 2, 4), condition_dim=192)
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(2.6e6, rel=0.05)

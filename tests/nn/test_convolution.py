import pytest
import torch

from simulacra.nn.classifier import ConvClassifier, shifted
from simulacra.nn.convolution import Decoder, Encoder, pyramid


@pytest.mark.parametrize("size", [(4, 4), (7, 13), (28, 28), (33, 20)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_encoder_and_decoder_take_any_size(size: tuple[int, int], levels: int) -> None:
    code = Encoder((3, *size), width=4, levels=levels, out_features=6)(torch.zeros(2, 3, *size))
    assert code.shape == (2, 6)
    assert Decoder((3, *size), width=4, levels=levels, in_features=6)(code).shape == (2, 3, *size)


def test_pyramid_rounds_up() -> None:
    assert pyramid(7, 13, 2) == [(7, 13), (4, 7), (2, 4)]


@pytest.mark.parametrize("size", [8, 12, 28, 40])
def test_classifier_takes_any_size(size: int) -> None:
    classifier = ConvClassifier(3, 5, n_features=7)
    assert classifier(torch.zeros(2, 3, size, size)).shape == (2, 5)
    assert classifier.features(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_images_move_whole_by_their_offsets() -> None:
    x = torch.zeros(25, 2, 9, 9)
    x[:, 0, 4, 4], x[:, 1, 4, 4] = 1, 2
    offsets = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    moved = shifted(x, offsets, pixels=2)
    assert moved.shape == x.shape
    places = moved[:, 0].flatten(1).argmax(1)
    assert torch.equal(places, moved[:, 1].flatten(1).argmax(1)), "channels stay together"
    assert torch.equal(torch.stack([6 - places // 9, 6 - places % 9], dim=1), offsets)
    assert torch.equal(moved.flatten(2).sum(2), x.flatten(2).sum(2))

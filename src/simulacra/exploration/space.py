"""A model's latent space, seen through held-out images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.base import Condition

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

CHUNK = 250
"""Images that are encoded or decoded at once."""
HEEDED = 8
"""Images by which it is found out whether a decoder heeds the class."""


class LatentModel(Protocol):
    """A family with codes: what the tools need of it."""

    @property
    def conditional(self) -> bool:
        """Whether samples can be asked for by class; encoder and decoder may then be told it, or do without."""

    def encode(self, data: ImageSet) -> NDArray[np.float32]:
        """Return one code an image, (n, d)."""

    def decode(self, z: NDArray[np.float32], *, condition: Condition = None) -> ImageSet:
        """Return one image a code."""


@dataclass(frozen=True)
class Coded:
    """Images and their codes.

    Args:
        images: n images.
        codes: (n, d).
        groups: the class of each where the decoder is told it, else 0, (n,): such codes say what the class does not,
            so they are only ever compared within their class.
    """

    images: ImageSet
    codes: Array
    groups: Rows

    @property
    def classes(self) -> Rows:
        """Class of each image; 0 where they carry none."""
        return np.zeros(len(self.images), np.int64) if self.images.labels is None else self.images.labels


class LatentSpace:
    """Codes of images that the model has not seen, in two parts: one to learn from, one to judge by.

    Attributes:
        conditional: whether what is decoded depends on the class that the decoder is told.

    Args:
        model: a fitted family with codes.
        learn: images from which centres and directions are learnt.
        held_out: images that are shown and measured.

    Raises:
        SimulacraError: where a code is not finite.
    """

    def __init__(self, model: LatentModel, learn: ImageSet, held_out: ImageSet) -> None:
        few = held_out.take(range(min(HEEDED, len(held_out))))
        self._model, self._asks_for_classes = model, model.conditional and held_out.labels is not None
        self.conditional = self._asks_for_classes and self._heeds_classes(few)
        self.learnt, self.held_out = self._coded(learn), self._coded(held_out)
        self.n_classes = max(1, held_out.n_classes)
        self.n_groups = self.n_classes if self.conditional else 1
        self.centres = means_of(self.learnt.codes, self.learnt.groups, self.n_groups)
        self.class_means = means_of(self.learnt.codes, self.learnt.classes, self.n_classes)

    def decode(self, codes: Array, groups: Rows) -> NDArray[np.uint8]:
        """Return the images of codes (..., d) whose groups are given, (...), as (..., channels, height, width)."""
        flat, conditions = codes.reshape(-1, codes.shape[-1]).astype(np.float32), groups.reshape(-1)
        parts = [
            self._model.decode(flat[rows], condition=conditions[rows] if self._asks_for_classes else None).images
            for rows in _chunks(len(flat))
        ]
        images = np.concatenate(parts)
        return images.reshape(*codes.shape[:-1], *images.shape[1:])

    def centred(self, coded: Coded) -> Array:
        """Return codes as seen from the centre of their group, (n, d)."""
        offset: Array = coded.codes - self.centres[coded.groups]
        return offset

    def measured(self, coded: Coded, measure: Callable[[NDArray[np.uint8]], Array]) -> Array:
        """Return an attribute of images as seen from its mean in their group among the images to learn from, (n,)."""
        means = means_of(measure(self.learnt.images.images), self.learnt.groups, self.n_groups)
        offset: Array = measure(coded.images.images) - means[coded.groups]
        return offset

    def _heeds_classes(self, images: ImageSet) -> bool:
        """Tell whether the same codes decode to other images under another class."""
        codes = self._encode(images).astype(np.float32)
        classes = np.zeros(len(codes), np.int64), np.full(len(codes), images.n_classes - 1)
        one, other = (self._model.decode(codes, condition=condition).images for condition in classes)
        return bool((one != other).any())

    def _encode(self, images: ImageSet) -> Array:
        codes = np.concatenate([self._model.encode(images.take(rows)) for rows in _chunks(len(images))])
        if not np.isfinite(codes).all():
            raise SimulacraError(
                "the model gives some images codes that are not finite: train it again with a lower learning_rate"
            )
        return codes.astype(np.float64)

    def _coded(self, images: ImageSet) -> Coded:
        own = images.labels if self.conditional else None
        return Coded(images, self._encode(images), np.zeros(len(images), np.int64) if own is None else own)


def means_of(values: Array, groups: Rows, n_groups: int) -> Array:
    """Return the mean of the values in each group, (n_groups, ...); in a group without any, the mean of all."""
    everyone = values.mean(axis=0)
    members = [values[groups == group] for group in range(n_groups)]
    return np.stack([own.mean(axis=0) if len(own) else everyone for own in members])


def in_turn(classes: Rows, n: int) -> Rows:
    """Return n rows, or all there are: the first of every class, then the second of every class, and so on."""
    order = np.argsort(classes, kind="stable")
    first = np.searchsorted(classes[order], classes[order])
    turn = np.empty(len(classes), np.int64)
    turn[order] = np.arange(len(classes)) - first
    return np.lexsort((classes, turn))[:n]


def _chunks(n: int) -> list[Rows]:
    return np.split(np.arange(n), range(CHUNK, n, CHUNK))

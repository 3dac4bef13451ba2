"""Classifiers trained on images: the evaluator's own extractor, and the user's classifier in the augmentation trial."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.nn.classifier import ConvClassifier, shifted
from simulacra.training.batches import Batch, to_float
from simulacra.training.history import History
from simulacra.training.loop import train
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable

CHUNK = 1000
ROTATIONS = ("0°", "90°", "180°", "270°")


class ImageClassifier(Trainable):
    """A convolutional network that the shared loop trains by cross-entropy on shifted images.

    Args:
        config: size and training.
        in_channels: channels of the images.
        class_names: one name a logit.

    Example:
        >>> classifier = ImageClassifier(ClassifierConfig(), 1, ("cat", "dog"))
        >>> classifier.predict(np.zeros((3, 1, 8, 8), np.uint8)).shape
        (3,)
    """

    def __init__(self, config: ClassifierConfig, in_channels: int, class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.in_channels, self.class_names = config, in_channels, class_names
        self.network = ConvClassifier(in_channels, len(class_names), width=config.width, n_features=config.n_features)

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return cross-entropy in nats and accuracy."""
        assert batch.y is not None, "a classifier is trained on labelled images"  # noqa: S101
        x, shift = batch.x, self.config.shift
        if self.training and shift:
            x = shifted(x, batch.noise.integers(2 * shift + 1, len(x), 2), pixels=shift)
        logits = self.network(x)
        accuracy = (logits.argmax(1) == batch.y).float().mean()
        return {"loss": F.cross_entropy(logits, batch.y), "accuracy": accuracy}

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the most probable class of each image, (n, c, h, w) uint8 to (n,)."""
        self.eval()
        logits = [self.network(to_float(part)) for part in torch.split(torch.from_numpy(images), CHUNK)]
        return torch.cat(logits).argmax(1).numpy()

    def accuracy(self, data: ImageSet) -> float:
        """Return the share of labelled images that are classified as their label says."""
        return float(np.mean(self.predict(data.images) == data.labels))

    def save(self, folder: Path) -> None:
        """Write `classifier.json` and `tensors.safetensors` into an existing folder."""
        facts = {"config": self.config.model_dump(), "in_channels": self.in_channels, "class_names": self.class_names}
        (folder / "classifier.json").write_text(json.dumps(facts, indent=2))
        save_file(self.state_dict(), folder / "tensors.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "ImageClassifier":
        """Read what `save` wrote."""
        facts = json.loads((folder / "classifier.json").read_text())
        config = ClassifierConfig.model_validate(facts["config"])
        classifier = cls(config, facts["in_channels"], tuple(facts["class_names"]))
        classifier.load_state_dict(load_file(folder / "tensors.safetensors"))
        classifier.eval()
        return classifier


def fit_classifier(
    data: ImageSet,
    config: ClassifierConfig,
    *,
    seed: int,
    validation: ImageSet | None = None,
    title: str = "classifier",
) -> tuple[ImageClassifier, History]:
    """Train a classifier on labelled images and return it with its curves.

    Raises:
        SimulacraError: where the images carry no labels.
    """
    if data.labels is None:
        raise SimulacraError("a classifier needs labelled images; put them into one folder a class")
    with seeded(seed):
        classifier = ImageClassifier(config, data.shape[0], data.class_names)
    history = train(classifier, data, config.training, seed=seed, validation=validation, title=title)
    return classifier, history


def with_rotation_labels(data: ImageSet, *, seed: int) -> ImageSet:
    """Turn each image by a random multiple of 90° and label it by that turn: classes for data that have none.

    A network that tells the turns apart has learnt shapes; its features serve unlabelled images as a class label's
    features serve labelled ones. Images must be square. Source: Gidaris et al. (2018), arXiv:1803.07728.
    """
    turns = np.random.default_rng(seed).integers(0, len(ROTATIONS), len(data))
    images = np.stack([np.rot90(image, turn, axes=(1, 2)) for image, turn in zip(data.images, turns, strict=True)])
    return ImageSet(np.ascontiguousarray(images), turns.astype(np.int64), ROTATIONS)

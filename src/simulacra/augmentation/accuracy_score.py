"""Classification accuracy score: Ravuri & Vinyals (2019), arXiv:1905.10887."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulacra.augmentation.classifiers import fit_classifier
from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.image_set import ImageSet


@dataclass(frozen=True)
class AccuracyScore:
    """Trains a classifier on generated images only, and asks it about real ones.

    Between chance and what as many real training images give: a family that leaves out parts of a class, or mixes
    classes up, loses here what it may not lose in a distance between clouds.

    Args:
        config: of the classifier.
    """

    config: ClassifierConfig

    def __call__(self, generated: ImageSet, real: ImageSet, seed: int) -> float:
        """Return the share of real images whose class is found.

        Args:
            generated: labelled by the class that was asked for.
            real: labelled, and of the same classes.
            seed: of the classifier's first weights and of its batches.
        """
        batch_size = min(self.config.training.batch_size, len(generated))
        training = self.config.training.model_copy(update={"batch_size": batch_size})
        config = self.config.model_copy(update={"training": training})
        return fit_classifier(generated, config, seed=seed, title="accuracy score")[0].accuracy(real)

    def describe(self) -> Mapping[str, Any]:
        """Return what two scores must have in common to be compared, for the passport."""
        training = self.config.training
        return {
            **self.config.model_dump(include={"width", "n_features", "shift"}),
            **training.model_dump(include={"steps", "batch_size", "learning_rate", "weight_decay", "optimizer"}),
        }

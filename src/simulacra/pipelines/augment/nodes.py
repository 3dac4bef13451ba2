"""Hold the augmentation trial for one family."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.augmentation.config import AugmentationConfig
from simulacra.data.image_set import ImageSet
from simulacra.models.base import GenerativeModel
from simulacra.pipelines.config import FamilyConfig


def train_on_real(
    train_set: ImageSet, test_set: ImageSet, augmentation: AugmentationConfig, seed: int
) -> dict[str, Any]:
    """Return the accuracies of classifiers that saw real images only; empty where the data carry no classes."""
    from simulacra.augmentation import protocol

    return {} if train_set.labels is None else protocol.train_on_real(train_set, test_set, augmentation, seed=seed)


def try_augmentation(
    train_set: ImageSet,
    test_set: ImageSet,
    baseline: dict[str, Any],
    model: GenerativeModel,
    config: FamilyConfig,
    augmentation: AugmentationConfig,
) -> dict[str, Any]:
    """Return the verdict on one family's synthetic images.

    By default the family is fitted anew on each seed's scarce set, so that nothing the classifier may not see reaches
    it by way of the generator; `generator_data: train` takes the model that saw the whole training split.
    """
    from simulacra.augmentation import protocol

    if not baseline:
        verdict = protocol.not_applicable("The data carry no classes, so there is no classifier to help.")
    elif not model.conditional:
        verdict = protocol.not_applicable("The model is not class-conditional, so its samples carry no labels.")
    else:
        training = config.training.model_copy(update={"steps": augmentation.generator_steps, "checkpoint_minutes": 0})

        def synthesise(scarce: ImageSet, classes: NDArray[np.int64], seed: int) -> ImageSet:
            if augmentation.generator_data == "train":
                return model.sample(len(classes), condition=classes, seed=seed)
            refitted = type(model)(model.config)
            refitted.fit(scarce, training=training, seed=seed)
            return refitted.sample(len(classes), condition=classes, seed=seed)

        verdict = protocol.run_trial(train_set, test_set, baseline, augmentation, synthesise)
    return {"family": config.family} | verdict

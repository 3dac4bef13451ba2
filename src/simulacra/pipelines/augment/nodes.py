"""Hold the augmentation trial for one family."""

from typing import Any

from simulacra.augmentation.config import AugmentationConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import ImageModel, ImageSet
from simulacra.pipelines.checks import refuse_other_split
from simulacra.pipelines.config import FamilyConfig


@skippable
def train_on_real(
    train_set: ImageSet, test_set: ImageSet, augmentation: AugmentationConfig, seed: int
) -> dict[str, Any]:
    """Return the accuracies of classifiers that saw real images only; empty where the data carry no classes."""
    from simulacra.augmentation import protocol

    return {} if train_set.labels is None else protocol.train_on_real(train_set, test_set, augmentation, seed=seed)


@skippable
def try_augmentation(
    train_set: ImageSet,
    test_set: ImageSet,
    baseline: dict[str, Any],
    model: ImageModel,
    config: FamilyConfig,
    augmentation: AugmentationConfig,
) -> dict[str, Any]:
    """Return the verdict on one family's synthetic images.

    Raises:
        SimulacraError: where the given model's images would be used, and it was fitted to another split than today's,
            some of whose test rows it may have seen.
    """
    from simulacra.augmentation import protocol

    if augmentation.generator_data == "train":
        refuse_other_split(model.name, model.train_sha256, train_set.fingerprint())
    if not baseline:
        verdict = protocol.not_applicable("The data carry no classes, so there is no classifier to help.")
    elif not model.conditional:
        verdict = protocol.not_applicable("The model is not class-conditional, so its samples carry no labels.")
    else:
        synthesise = protocol.synthesiser(model, config.training, augmentation)
        verdict = protocol.run_trial(train_set, test_set, baseline, augmentation, synthesise)
    return {"family": config.family} | verdict

"""The augmentation trial: same classifier, same steps, same scarce images, with and without synthetic ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.augmentation.classifiers import fit_classifier
from simulacra.augmentation.config import AugmentationConfig
from simulacra.augmentation.statistics import paired_bootstrap, verdict
from simulacra.data.image_set import ImageSet, join
from simulacra.data.split import class_counts
from simulacra.models.base import ImageModel
from simulacra.training.config import TrainingConfig

Synthesise = Callable[[ImageSet, NDArray[np.int64], int], ImageSet]
"""Given the scarce real set, the classes wanted (one a sample) and a seed: labelled synthetic images."""


def synthesiser(model: ImageModel, training: TrainingConfig, config: AugmentationConfig) -> Synthesise:
    """Return how a family makes the synthetic images of a trial.

    By default it is fitted anew on each seed's scarce set, so that nothing that the classifier may not see reaches it
    by way of the generator; `generator_data: train` takes the given model, which saw the whole training split.
    """
    # So short a training is not worth a checkpoint, a look at samples, nor the start of processes.
    alone = {"checkpoint_minutes": 0, "checkpoint_steps": 0, "watch_every": 0, "processes": 1, "hosts": 1}
    batch_size = min(training.batch_size, config.generator_batch_size)
    budget = training.model_copy(update=alone | {"steps": config.generator_steps, "batch_size": batch_size})

    def synthesise(scarce: ImageSet, classes: NDArray[np.int64], seed: int) -> ImageSet:
        if config.generator_data == "train":
            return model.sample(len(classes), condition=classes, seed=seed)
        refitted = type(model)(model.config)
        refitted.fit(scarce, training=budget, seed=seed)
        return refitted.sample(len(classes), condition=classes, seed=seed)

    return synthesise


def draw_scarce(train: ImageSet, per_class: int, seed: int) -> ImageSet:
    """Return up to `per_class` random rows of every class of a labelled set."""
    assert train.labels is not None  # noqa: S101
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(train.labels == label))[:per_class] for label in range(train.n_classes)]
    return train.take(np.concatenate(rows))


def mix(real: ImageSet, synthetic: ImageSet, real_share: float) -> ImageSet:
    """Return both sets together, the scarcer one repeated until real rows make up about `real_share` of the whole."""
    wanted = len(synthetic) * real_share / (1 - real_share) / len(real)
    repeats = [0] * max(1, round(wanted)) + [1] * max(1, round(1 / wanted))
    parts = [(real, synthetic)[which] for which in repeats]
    return join(parts, sum(map(len, parts)))


def train_on_real(train: ImageSet, test: ImageSet, config: AugmentationConfig, *, seed: int) -> dict[str, Any]:
    """Train the classifier on each seed's scarce set alone, and once on all of the training split.

    Returns:
        {"seeds", "correct" (one string of 0 and 1 a seed, one digit a test image), "accuracy_all_real"}.
    """
    seeds = [seed * 1000 + repetition for repetition in range(config.n_seeds)]
    correct = [_correct(draw_scarce(train, config.images_per_class, each), test, config, each) for each in seeds]
    everything = _correct(train, test, config, seeds[0])
    return {
        "seeds": seeds,
        "correct": ["".join("01"[int(hit)] for hit in row) for row in correct],
        "accuracy_all_real": float(everything.mean()),
    }


def run_trial(
    train: ImageSet,
    test: ImageSet,
    baseline: dict[str, Any],
    config: AugmentationConfig,
    synthesise: Synthesise,
) -> dict[str, Any]:
    """Train the classifier on each seed's scarce set with synthetic images added, and compare pair by pair.

    Both arms of a seed share scarce set, initial weights, batch size and number of steps.

    Returns:
        The verdict with its interval and the accuracies of every seed.
    """
    classes = np.repeat(np.arange(train.n_classes), config.synthetic_per_class)
    augmented = []
    for seed in baseline["seeds"]:
        scarce = draw_scarce(train, config.images_per_class, seed)
        mixed = mix(scarce, synthesise(scarce, classes, seed), config.real_share)
        augmented.append(_correct(mixed, test, config, seed))
    real = np.array([[digit == "1" for digit in row] for row in baseline["correct"]])
    return _conclude(baseline, real, np.array(augmented), config, class_counts(scarce) or {})


def not_applicable(reason: str) -> dict[str, Any]:
    """Return the verdict of a trial that cannot be held."""
    return {"verdict": "not applicable", "reason": reason, "difference": None, "interval": None, "per_seed": []}


def _correct(train: ImageSet, test: ImageSet, config: AugmentationConfig, seed: int) -> NDArray[np.bool_]:
    # The smaller arm's batches must fit into its scarce set; the larger arm takes no advantage of having more.
    batch_size = min(config.classifier.training.batch_size, config.images_per_class * train.n_classes)
    training = config.classifier.training.model_copy(update={"batch_size": batch_size})
    classifier, _ = fit_classifier(train, config.classifier.model_copy(update={"training": training}), seed=seed)
    return np.asarray(classifier.predict(test.images) == test.labels)


def _conclude(
    baseline: dict[str, Any],
    real: NDArray[np.bool_],
    augmented: NDArray[np.bool_],
    config: AugmentationConfig,
    scarce: dict[str, int],
) -> dict[str, Any]:
    interval = paired_bootstrap(real, augmented, confidence=config.confidence)
    conclusion = verdict(interval)
    accuracies = zip(baseline["seeds"], real.mean(1), augmented.mean(1), strict=True)
    fewest, most = min(scarce.values()), max(scarce.values())
    real_images = f"{most}" if fewest == most else f"{fewest} to {most}"
    return {
        "verdict": conclusion,
        "reason": (
            f"With {real_images} real images a class, adding {config.synthetic_per_class} synthetic ones a "
            f"class changes test accuracy by {100 * interval.mean:+.1f} points "
            f"({100 * config.confidence:.0f} % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f})."
        ),
        "difference": interval.mean,
        "interval": [interval.low, interval.high],
        "confidence": config.confidence,
        "per_seed": [{"seed": seed, "real": float(a), "augmented": float(b)} for seed, a, b in accuracies],
        "accuracy_real": float(real.mean()),
        "accuracy_augmented": float(augmented.mean()),
        "accuracy_all_real": baseline["accuracy_all_real"],
        "real_per_class": scarce,
        "synthetic_per_class": config.synthetic_per_class,
        "real_share": config.real_share,
        "steps": config.classifier.training.steps,
        "generator_data": config.generator_data,
        "generator_steps": config.generator_steps if config.generator_data == "scarce" else None,
    }

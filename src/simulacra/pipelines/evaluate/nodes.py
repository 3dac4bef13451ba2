"""Train the extractor, measure floor and noise, and measure each family by the same judge."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulacra.incremental import skippable
from simulacra.metrics import CLASSIFIER
from simulacra.pipelines.annotations import Figure, ImageClassifier, ImageModel, ImageSet
from simulacra.pipelines.checks import refuse_unjudgeable
from simulacra.pipelines.config import EvaluationConfig, GenerationConfig, GuestsConfig
from simulacra.pipelines.generate.nodes import sample_seeds
from simulacra.state import STATE

if TYPE_CHECKING:
    from simulacra.metrics.cache import FeatureCache
    from simulacra.metrics.features import NetworkExtractor
    from simulacra.metrics.judge import Judge


@skippable
def train_extractor(
    train_set: ImageSet, validation_set: ImageSet, test_set: ImageSet, evaluation: EvaluationConfig, seed: int
) -> tuple[ImageClassifier, dict[str, Any]]:
    """Return a classifier of the training split, and how well it does on the test split.

    Images without classes are classified by how they were turned: the features, not the classes, are what is wanted.
    """
    from simulacra.augmentation.classifiers import fit_classifier, with_rotation_labels
    from simulacra.metrics.judge import CLASSES, ROTATIONS

    labelled = train_set.labels is not None
    train, validation, test = (
        (part if labelled else with_rotation_labels(part, seed=seed)) for part in (train_set, validation_set, test_set)
    )
    classifier, _ = fit_classifier(train, evaluation.classifier, seed=seed, validation=validation, title="extractor")
    record = {
        "name": CLASSES if labelled else ROTATIONS,
        "test_accuracy": classifier.accuracy(test),
        "n_train": len(train),
    }
    return classifier, record


@skippable
def evaluate_baselines(
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the records of the floor (real images against other real ones), of training images and of pure noise.

    Of a training split with fewer images than are compared there is no record.
    """
    judge = make_judge(extractor, extractor_record, train_set, validation_set, test_set, generation, evaluation)
    seeds = sample_seeds(seed, generation.n_seeds)
    copies = [judge.copies(seeds)] if len(train_set) >= judge.n else []
    return [judge.floor(seeds), *copies, judge.noise(seeds)]


@skippable
def try_evaluator(
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    """Return whether the ranking metric rises as real images are made worse."""
    judge = make_judge(extractor, extractor_record, train_set, validation_set, test_set, generation, evaluation)
    return judge.responses(seed)


@skippable
def judge_guests(
    guests: GuestsConfig,
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the metrics records of images that other programs made; none where none are named."""
    from simulacra.data.guests import read_guest

    if not guests.root:
        return []
    judge = make_judge(extractor, extractor_record, train_set, validation_set, test_set, generation, evaluation)
    seeds = sample_seeds(seed, generation.n_seeds)
    records = []
    for name, place in guests.root.items():
        images, origin = read_guest(name, place, test_set.shape)
        records.append(judge.guest(name, images, seeds, origin=origin))
    return records


@skippable
def evaluate(
    model: ImageModel,
    samples: ImageSet,
    generation_record: dict[str, Any],
    training_record: dict[str, Any],
    split_record: dict[str, Any],
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
) -> dict[str, Any]:
    """Return the metrics record of one family.

    Raises:
        SimulacraError: where the model was fitted to another split than today's, some of whose test rows it may have
            seen, or the samples are another model's.
    """
    sha256 = model.fingerprint()
    refuse_unjudgeable(model.name, sha256, "samples", generation_record, training_record, split_record)
    judge = make_judge(extractor, extractor_record, train_set, validation_set, test_set, generation, evaluation)
    record = judge.family(model, samples, generation_record["seeds"], ema=training_record.get("ema"))
    return record | {"model_sha256": sha256}


@skippable
def find_neighbours(
    samples: ImageSet,
    generation_record: dict[str, Any],
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    train_set: ImageSet,
) -> tuple[dict[str, Any], ImageSet]:
    """Return a record of the training images nearest to samples, and the pixels of its picture."""
    from simulacra.exploration.neighbours import beside_training
    from simulacra.exploration.panels import pack

    panel = beside_training(samples, train_set, _own_extractor(extractor, extractor_record))
    pixels, panels = pack([panel], samples.shape)
    return {"model_sha256": generation_record["model_sha256"], "panels": panels}, pixels


@skippable
def try_prompts(
    model: ImageModel, extractor: ImageClassifier, extractor_record: dict[str, Any], seed: int
) -> tuple[dict[str, Any], ImageSet]:
    """Return a record of how faithful a family is to prompts, and the pixels of its picture.

    A model that takes none, as where images carry no classes, has a record that says why.
    """
    from simulacra.exploration import prompts
    from simulacra.exploration.panels import pack

    about = {"model_sha256": model.fingerprint(), "seed": seed}
    if model.captions is None:
        reason = "its captions are switched off" if model.conditional else "it was fitted without classes"
        pixels, panels = pack([], model.shape)
        return about | {"omitted": f"{model.name} takes no prompts: {reason}", "metrics": {}, "panels": panels}, pixels
    judge = _own_extractor(extractor, extractor_record)
    found = prompts.try_prompts(
        model, model.captions, lambda images: judge.probabilities(images).argmax(axis=1), seed=seed
    )
    pixels, panels = pack([found.panel], model.shape)
    about |= {"extractor": dict(judge.describe())}
    about |= {"omitted": None, "metrics": found.metrics, "fidelity": found.fidelity, "panels": panels}
    return about, pixels


@skippable
def plot_prompts(prompt_fidelity: dict[str, Any], prompted_images: ImageSet) -> Figure:
    """Draw what came of some prompts, one a row."""
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import picture_table

    return picture_table(unpack(prompt_fidelity["panels"], prompted_images))


def make_judge(
    extractor: ImageClassifier,
    record: dict[str, Any],
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
) -> "Judge":
    """Return the judge of images that all rows of a leaderboard share, with its extractors."""
    from simulacra.augmentation.accuracy_score import AccuracyScore
    from simulacra.metrics.cache import FeatureCache
    from simulacra.metrics.features import FeatureExtractor
    from simulacra.metrics.judge import Judge
    from simulacra.metrics.pretrained import load
    from simulacra.training.device import resolve_device

    own = _own_extractor(extractor, record)
    # Apple's devices cannot resize with antialiasing.
    device = "cuda" if resolve_device(evaluation.classifier.training.device).type == "cuda" else "cpu"
    extractors: list[FeatureExtractor] = [own] if CLASSIFIER in evaluation.extractors else []
    # These are slow, and what they see seldom changes: their features are kept for the next run.
    extractors += [load(each, device=device, cache=FeatureCache(_kept_features())) for each in evaluation.pretrained]
    return Judge(
        extractors,
        validation_set,
        test_set,
        n_generated=generation.n,
        neighbours=evaluation.neighbours,
        importance_samples=evaluation.importance_samples,
        train=train_set,
        score=AccuracyScore(evaluation.accuracy_score) if evaluation.accuracy_score else None,
    )


def _own_extractor(extractor: ImageClassifier, record: dict[str, Any]) -> "NetworkExtractor":
    """Return the dataset's classifier as an extractor of features."""
    from simulacra.metrics.features import NetworkExtractor

    return NetworkExtractor(
        extractor.network,
        name=record["name"],
        channels=extractor.in_channels,
        test_accuracy=record["test_accuracy"],
        cache=_own_features(),
    )


@functools.cache
def _own_features() -> "FeatureCache":
    """Return the one cache of the dataset's classifier: every node asks for the same reference and training images."""
    from simulacra.metrics.cache import FeatureCache

    return FeatureCache()


def _kept_features() -> Path | None:
    """Return the folder of features, beside the records of what is done; None outside a project's run."""
    state = os.environ.get(STATE)
    return Path(state) / "features" if state else None

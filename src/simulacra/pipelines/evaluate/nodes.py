"""Train the extractor, measure floor and noise, and measure each family by the same code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.base import GenerativeModel
from simulacra.pipelines.annotations import ImageClassifier
from simulacra.pipelines.config import EvaluationConfig, GenerationConfig
from simulacra.pipelines.generate.nodes import sample_seeds

if TYPE_CHECKING:
    pass

CLASSES, ROTATIONS = "classifier", "rotation classifier"
"""Names of the extractor: trained on the data's classes, or, where there are none, on how an image was turned."""

MIN_IMAGES = 20
"""Fewer images than this a side make every distance between feature clouds meaningless."""


def train_extractor(
    train_set: ImageSet, validation_set: ImageSet, test_set: ImageSet, evaluation: EvaluationConfig, seed: int
) -> tuple[ImageClassifier, dict[str, Any]]:
    """Return a classifier of the training split, and how well it does on the test split.

    Images without classes are classified by how they were turned: the features, not the classes, are what is wanted.
    """
    from simulacra.augmentation.classifiers import fit_classifier, with_rotation_labels

    labelled = train_set.labels is not None
    train, validation, test = (
        (part if labelled else with_rotation_labels(part, seed=seed)) for part in (train_set, validation_set, test_set)
    )
    classifier, _ = fit_classifier(train, evaluation.classifier, seed=seed, validation=validation, title="extractor")
    accuracy = float(np.mean(classifier.predict(test.images) == test.labels))
    return classifier, {"name": CLASSES if labelled else ROTATIONS, "test_accuracy": accuracy, "n_train": len(train)}


def evaluate_baselines(
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the records of the floor (real images against other real images) and of pure noise.

    Neither the extractor nor any family was fitted to validation or test images, so random halves of the two
    together, as large as every family's comparison, show the best value that a perfect generator could expect.
    """
    n, seeds = _comparison_size(validation_set, test_set, generation), sample_seeds(seed, generation.n_seeds)
    judge = _Judge(extractor, extractor_record, test_set.take(range(n)), evaluation)
    pool = np.concatenate([validation_set.images, test_set.images])
    floor, noise = [], []
    for each in seeds:
        rng = np.random.default_rng(each)
        order = rng.permutation(len(pool))
        floor.append(judge.compare(pool[order[:n]], pool[order[n : 2 * n]]))
        noise.append(
            judge.compare(judge.reference.images, rng.integers(0, 256, judge.reference.images.shape, np.uint8))
        )
    return [
        judge.record("floor", "floor", floor, seeds),
        judge.record("noise", "noise", noise, seeds),
    ]


def evaluate(
    model: GenerativeModel,
    samples: ImageSet,
    generation_record: dict[str, Any],
    training_record: dict[str, Any],
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
) -> dict[str, Any]:
    """Return the metrics record of one family: distances of its samples to the test split, and its likelihood there."""
    n = _comparison_size(validation_set, test_set, generation)
    judge = _Judge(extractor, extractor_record, test_set.take(range(n)), evaluation)
    sets = samples.images.reshape(len(generation_record["seeds"]), generation_record["n"], *samples.shape)
    values = [
        judge.compare(judge.reference.images, images[:n]) | _likelihood(model, judge.reference, seed)
        for images, seed in zip(sets, generation_record["seeds"], strict=True)
    ]
    record = judge.record(model.name, "family", values, generation_record["seeds"])
    record["passport"] |= {"ema": training_record.get("ema"), "likelihood": model.likelihood}
    return record


def _comparison_size(validation_set: ImageSet, test_set: ImageSet, generation: GenerationConfig) -> int:
    """Return the number of images on each side of every comparison, the floor's included."""
    n = min(generation.n, len(test_set), (len(validation_set) + len(test_set)) // 2)
    if n < MIN_IMAGES:
        raise SimulacraError(
            f"only {n} images can be compared; evaluation needs {MIN_IMAGES}: bring more data or raise generation.n"
        )
    return n


def _likelihood(model: GenerativeModel, reference: ImageSet, seed: int) -> dict[str, float]:
    """Return held-out bits per dimension under the key of what they are: exact, or a bound."""
    from simulacra.metrics.likelihood import bits_per_dim

    n_dims = int(np.prod(reference.shape))
    for method, key in (("log_prob", "bits_per_dim"), ("elbo", "elbo_bits_per_dim")):
        if hasattr(model, method):
            return {key: bits_per_dim(getattr(model, method)(reference.images, seed=seed), n_dims)}
    return {}


class _Judge:
    """Measures image sets by one extractor against one reference."""

    def __init__(
        self,
        classifier: ImageClassifier,
        classifier_record: dict[str, Any],
        reference: ImageSet,
        evaluation: EvaluationConfig,
    ) -> None:
        from simulacra.metrics.features import NetworkExtractor

        self.extractor: NetworkExtractor = NetworkExtractor(
            classifier.network, name=classifier_record["name"], channels=classifier.in_channels
        )
        self.about = classifier_record
        self.reference, self.neighbours = reference, evaluation.neighbours

    def compare(self, real: Any, generated: Any) -> dict[str, float]:
        """Return every sample-based metric of uint8 images (n, c, h, w) against as many real ones."""
        from simulacra.metrics.frechet import frechet_distance
        from simulacra.metrics.inception_score import inception_score
        from simulacra.metrics.kernel import kernel_distance
        from simulacra.metrics.manifold import precision_recall_density_coverage

        a, b = self.extractor.features(real), self.extractor.features(generated)
        values = {"fd_classifier": frechet_distance(a, b), "kid_classifier": 1000 * kernel_distance(a, b)}
        # The inception score asks how varied the classes are; turns of an image say nothing of that.
        if self.extractor.name == CLASSES:
            values["is_classifier"] = inception_score(self.extractor.probabilities(generated))[0]
        return values | precision_recall_density_coverage(a, b, k=self.neighbours)

    def record(self, row: str, role: str, values: Sequence[dict[str, float]], seeds: Sequence[int]) -> dict[str, Any]:
        """Return a leaderboard row with its passport."""
        from simulacra.metrics.passport import library_versions, passport_id, summarise

        passport = {
            "extractor": self.extractor.describe() | {"test_accuracy": self.about["test_accuracy"]},
            "n_real": len(self.reference),
            "n_generated": len(self.reference),
            "reference_split": "test",
            "reference_sha256": self.reference.fingerprint(),
            "neighbours": self.neighbours,
            "seeds": list(seeds),
            "ema": None,
            "likelihood": None,
            "versions": library_versions(),
        }
        metrics = {key: summarise([value[key] for value in values]) for key in values[0]}
        return {
            "row": row,
            "role": role,
            "metrics": metrics,
            "passport": passport,
            "passport_id": passport_id(passport),
        }

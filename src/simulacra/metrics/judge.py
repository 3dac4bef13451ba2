"""The one evaluator: measures every set of samples by the same code against the same reference."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from simulacra.data.image_set import ImageSet, join
from simulacra.errors import SimulacraError
from simulacra.metrics import CLASSIFIER, METRICS, frechet_key
from simulacra.metrics.corruptions import responses, rises
from simulacra.metrics.features import FeatureExtractor
from simulacra.metrics.frechet import frechet_distance, frechet_distance_at_infinity, rows_for_infinity
from simulacra.metrics.inception_score import inception_score
from simulacra.metrics.kernel import kernel_distance
from simulacra.metrics.likelihood import Likelihood, bits_per_dim
from simulacra.metrics.manifold import precision_recall_density_coverage
from simulacra.metrics.memorisation import FLOOR, authenticity, memorised_share
from simulacra.metrics.passport import library_versions, passport_id, summarise
from simulacra.metrics.pixels import intensity_distance, spectral_distance
from simulacra.metrics.sliced_wasserstein import sliced_wasserstein_distance
from simulacra.metrics.vendi import vendi_score

CLASSES, ROTATIONS = CLASSIFIER, "rotation classifier"
"""Names of the data's own extractor: trained on their classes, or, where there are none, on how an image was turned."""

MIN_IMAGES = 20
"""Fewer images than this a side make every distance between feature clouds meaningless."""


def images_a_side(n_generated: int, n_validation: int, n_test: int, *, neighbours: int) -> int:
    """Return how many images a side every comparison has.

    As many as are generated a seed, as the test split holds, or as half of validation and test split together hold,
    whichever is least; so that the floor, which compares two halves of the splits, has as many as a family.

    Raises:
        SimulacraError: where that is less than `MIN_IMAGES`, or leaves no k-th neighbour; names what is too small.

    Example:
        >>> images_a_side(1000, 400, 600, neighbours=5)
        500
    """
    limits = {
        f"generation.n is {n_generated}": (n_generated, "raise it"),
        f"the test split has {n_test} images": (n_test, "bring more data or raise split.test"),
        f"validation and test split have {n_validation + n_test} images together, and the floor compares two halves": (
            (n_validation + n_test) // 2,
            "bring more data or raise split.validation",
        ),
    }
    limit, (n, remedy) = min(limits.items(), key=lambda entry: entry[1][0])
    if n < MIN_IMAGES:
        raise SimulacraError(f"evaluation compares {MIN_IMAGES} images a side at least, but {limit}: {remedy}")
    if n <= neighbours:
        raise SimulacraError(f"evaluation.neighbours is {neighbours}, but {limit}: lower neighbours or {remedy}")
    return n


class Score(Protocol):
    """A number of labelled images and as many real ones; the seed is for what is drawn by chance in measuring."""

    def __call__(self, generated: ImageSet, real: ImageSet, seed: int) -> float:
        """Return the number."""

    def describe(self) -> Mapping[str, Any]:
        """Return what two such numbers must have in common to be compared."""


class Judge:
    """Measures samples by its extractors against the first images of the test split, and writes the passport.

    Args:
        extractors: give features and class probabilities, each under keys of its own.
        validation: the validation split; only the floor looks at it.
        test: the test split.
        n_generated: samples a seed.
        neighbours: k of precision, recall, density and coverage.
        importance_samples: draws that a likelihood averages over, where it depends on any.
        train: the training split, among which copies are looked for; None where that is not wanted.
        score: for the classification accuracy score; None where that is not wanted.

    Raises:
        SimulacraError: where too few images could be compared.
    """

    def __init__(
        self,
        extractors: Sequence[FeatureExtractor],
        validation: ImageSet,
        test: ImageSet,
        *,
        n_generated: int,
        neighbours: int,
        importance_samples: int = 1,
        train: ImageSet | None = None,
        score: Score | None = None,
    ) -> None:
        self.n = images_a_side(n_generated, len(validation), len(test), neighbours=neighbours)
        self.extractors, self.neighbours, self.importance_samples = extractors, neighbours, importance_samples
        self.reference = test.take(range(self.n))
        self.splits, self.train, self.score = (validation, test), train, score
        self._cautions: set[str] = set()

    def compare(self, real: ImageSet, generated: ImageSet, *, seed: int = 0) -> dict[str, float]:
        """Return every sample-based metric of a set of images against as many real ones; KID is times 1000.

        The seed is for what is drawn by chance in measuring.
        """
        values: dict[str, float] = {}
        for extractor in self.extractors:
            values |= self._compare_by(extractor, real, generated)
            if extractor.name in (CLASSES, ROTATIONS):
                values |= self._look_closer(extractor, real, generated, seed)
        values["intensity_distance"] = intensity_distance(real.images, generated.images)
        values["spectral_distance"] = spectral_distance(real.images, generated.images)
        if self.score and real.labels is not None and generated.labels is not None:
            values["accuracy_score"] = self.score(generated, real, seed)
        return values

    def _look_closer(
        self, extractor: FeatureExtractor, real: ImageSet, generated: ImageSet, seed: int
    ) -> dict[str, float]:
        """Return what the data's own features tell of variety, of transport, and of copies of training images."""
        a, b = extractor.features(real.images), extractor.features(generated.images)
        values = {"vendi": vendi_score(b), "sliced_wasserstein": sliced_wasserstein_distance(a, b)}
        if self.n >= rows_for_infinity(a.shape[1]):
            values["fd_infinity"] = frechet_distance_at_infinity(a, b, seed=seed)
        if self.train is None or len(self.train) < 2:
            return values
        known = extractor.features(self.train.images)
        values["authenticity"] = authenticity(known, b)
        # Of fewer images none is the one of a hundred that the limit is set by.
        if self.n * FLOOR >= 1:
            values["memorised"] = memorised_share(known, a, b)
        return values

    def _compare_by(self, extractor: FeatureExtractor, real: ImageSet, generated: ImageSet) -> dict[str, float]:
        """Return the metrics of one extractor, under keys that name it."""
        own = extractor.name in (CLASSES, ROTATIONS)
        name, ending = (CLASSIFIER, "") if own else (extractor.name, f"_{extractor.name}")
        a, b = extractor.features(real.images), extractor.features(generated.images)
        if len(a) <= a.shape[1]:
            self._cautions.add(
                f"{METRICS[frechet_key(name)].title} fits Gaussians of {a.shape[1]:,} dimensions to {len(a):,} images, "
                "too few for them: go by KID, which does not depend on their number, or compare more images "
                "(generation.n, and the splits)."
            )
        values = {frechet_key(name): frechet_distance(a, b), f"kid_{name}": 1000 * kernel_distance(a, b)}
        # The inception score asks how varied the classes are; turns of an image say nothing of that, and an extractor
        # that was trained without classes has no such metric.
        if extractor.name != ROTATIONS and f"is_{name}" in METRICS:
            probabilities = extractor.probabilities(generated.images)
            values[f"is_{name}"] = inception_score(probabilities)[0]
            if own and generated.labels is not None:
                values["class_accuracy"] = float((probabilities.argmax(axis=1) == generated.labels).mean())
        shares = precision_recall_density_coverage(a, b, k=self.neighbours)
        return values | {f"{key}{ending}": value for key, value in shares.items()}

    def floor(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of real images against other real images: the best that a generator can expect.

        Neither extractor nor any family was fitted to validation or test images, so each seed compares two random
        halves of the two splits together.
        """
        values = [self.compare(*self._halves(seed), seed=seed) for seed in seeds]
        return self._record("floor", "floor", values, seeds, compared="random halves of validation and test split")

    def responses(self, seed: int) -> dict[str, Any]:
        """Return what the ranking metric says of real images that are made worse by degrees, see `corruptions`.

        Returns:
            `metric`; `curves`, (level, value) by corruption; `rises`, by corruption whether every level scores worse.
        """
        extractor = self.extractors[0]
        reference, images = self._halves(seed)
        real = extractor.features(reference.images)
        curves = responses(lambda pixels: frechet_distance(real, extractor.features(pixels)), images, seed=seed)
        name = CLASSIFIER if extractor.name in (CLASSES, ROTATIONS) else extractor.name
        return {
            "metric": frechet_key(name),
            "n": self.n,
            "seed": seed,
            "curves": curves,
            "rises": {corruption: rises(curve) for corruption, curve in curves.items()},
        }

    def _halves(self, seed: int) -> tuple[ImageSet, ImageSet]:
        """Return two random halves of validation and test split, which have no image in common."""
        pool = join(self.splits, sum(map(len, self.splits)))
        order = np.random.default_rng(seed).permutation(len(pool))
        return pool.take(order[: self.n]), pool.take(order[self.n : 2 * self.n])

    def copies(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of training images in the place of samples: what remembering them all scores.

        The data's own extractor was fitted to them, so that its features place them a little off new images.
        """
        assert self.train is not None  # noqa: S101
        values = []
        for seed in seeds:
            rows = np.random.default_rng(seed).permutation(len(self.train))[: self.n]
            values.append(self.compare(self.reference, self.train.take(rows), seed=seed))
        return self._record("train", "train", values, seeds, compared="training images with the test split")

    def noise(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of independent uniform pixels: what knowing nothing scores."""
        shape = self.reference.images.shape
        values = []
        for seed in seeds:
            drawn = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
            values.append(self.compare(self.reference, ImageSet(drawn), seed=seed))
        return self._record("noise", "noise", values, seeds)

    def family(self, model: Any, samples: ImageSet, seeds: Sequence[int], *, ema: bool | None) -> dict[str, Any]:
        """Return the record of one family: its samples against the test split, and its likelihood there.

        Args:
            model: a fitted family; asked for its name, what its likelihood is of, and that of the test images.
            samples: as many images for each seed, in the order of the seeds.
            seeds: what the samples were drawn with.
            ema: whether the weights are averaged; None where the family has none.
        """
        a_seed = len(samples) // len(seeds)
        if a_seed < self.n:
            raise SimulacraError(
                f"{model.name} has {a_seed} samples a seed where {self.n} are compared; "
                "run `kedro run --pipeline generate` with the present generation.n"
            )
        likelihood: Likelihood | None = model.likelihood
        fixed = {} if likelihood is None or likelihood.random else self._likelihood(model, likelihood, seeds[0])
        values = []
        for place, seed in enumerate(seeds):
            chosen = samples.take(range(place * a_seed, place * a_seed + self.n))
            drawn = self._likelihood(model, likelihood, seed) if likelihood and likelihood.random else fixed
            values.append(self.compare(self.reference, chosen, seed=seed) | drawn)
        described = likelihood and likelihood.describe(self.importance_samples)
        return self._record(model.name, "family", values, seeds, ema=ema, likelihood=described)

    def guest(self, name: str, images: ImageSet, seeds: Sequence[int], *, origin: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of images that another program made, which stands in the ranking like a family's.

        Args:
            name: of the row.
            images: theirs; where there are enough, no two seeds take the same one.
            seeds: as many as a family's samples have.
            origin: where they come from, for the passport.

        Raises:
            SimulacraError: where there are fewer than are compared.
        """
        if len(images) < self.n:
            raise SimulacraError(
                f"guests.{name} has {len(images)} images where {self.n} are compared: bring more, or lower generation.n"
            )
        apart = len(images) >= self.n * len(seeds)
        order = np.random.default_rng(seeds[0]).permutation(len(images))
        values = []
        for place, seed in enumerate(seeds):
            own = order[place * self.n :] if apart else np.random.default_rng(seed).permutation(len(images))
            values.append(self.compare(self.reference, images.take(own[: self.n]), seed=seed))
        record = self._record(name, "family", values, seeds, origin=dict(origin))
        if not apart:
            record["cautions"].append(
                f"The {len(seeds)} draws of {name} share images, since there are {len(images):,} in all: its ± is too "
                f"small. {self.n * len(seeds):,} would do."
            )
        return record

    def _likelihood(self, model: Any, likelihood: Likelihood, seed: int) -> dict[str, float]:
        """Return the test images' bits and nats under the key of what they are, and how well Bayes' rule classifies."""
        joint = model.joint(self.reference.images, seed=seed, importance_samples=self.importance_samples)
        nats = np.logaddexp.reduce(joint, axis=1)
        values = {
            likelihood.key: bits_per_dim(nats, int(np.prod(self.reference.shape))),
            likelihood.nats_key: -float(nats.mean()),
        }
        if joint.shape[1] > 1 and self.reference.labels is not None:
            values["bayes_accuracy"] = float((joint.argmax(axis=1) == self.reference.labels).mean())
        return values

    def _record(
        self, row: str, role: str, values: Sequence[dict[str, float]], seeds: Sequence[int], **about: Any
    ) -> dict[str, Any]:
        """Return a row of the leaderboard with its passport."""
        passport = {
            "extractors": {extractor.name: dict(extractor.describe()) for extractor in self.extractors},
            "n_real": self.n,
            "n_generated": self.n,
            "compared": "generated images with the test split",
            "reference_sha256": self.reference.fingerprint(),
            "neighbours": self.neighbours,
            "seeds": list(seeds),
            "ema": None,
            "likelihood": None,
            "accuracy_score": self.score and dict(self.score.describe()),
            "versions": library_versions(),
        } | about
        metrics = {key: summarise([value[key] for value in values]) for key in values[0]}
        return {
            "row": row,
            "role": role,
            "metrics": metrics,
            "passport": passport,
            "passport_id": passport_id(passport),
            "cautions": sorted(self._cautions),
        }

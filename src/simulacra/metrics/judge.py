"""The one evaluator: measures every set of samples by the same code against the same reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.features import FeatureExtractor
from simulacra.metrics.frechet import frechet_distance
from simulacra.metrics.inception_score import inception_score
from simulacra.metrics.kernel import kernel_distance
from simulacra.metrics.likelihood import bits_per_dim
from simulacra.metrics.manifold import precision_recall_density_coverage
from simulacra.metrics.passport import library_versions, passport_id, summarise

Images = NDArray[np.uint8]

CLASSES, ROTATIONS = "classifier", "rotation classifier"
"""Names of the extractor: trained on the data's classes, or, where there are none, on how an image was turned."""

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


class Judge:
    """Measures samples by one extractor against the first images of the test split, and writes the passport.

    Args:
        extractor: gives features and class probabilities.
        validation: the validation split; only the floor looks at it.
        test: the test split.
        n_generated: samples a seed.
        neighbours: k of precision, recall, density and coverage.

    Raises:
        SimulacraError: where too few images could be compared.
    """

    def __init__(
        self, extractor: FeatureExtractor, validation: ImageSet, test: ImageSet, *, n_generated: int, neighbours: int
    ) -> None:
        self.n = images_a_side(n_generated, len(validation), len(test), neighbours=neighbours)
        self.extractor, self.neighbours = extractor, neighbours
        labels = None if test.labels is None else test.labels[: self.n]
        self.reference = ImageSet(test.images[: self.n], labels, test.class_names)
        self.splits = (validation.images, test.images)

    def compare(self, real: Images, generated: Images) -> dict[str, float]:
        """Return every sample-based metric of images (n, c, h, w) against as many real ones; KID is times 1000."""
        a, b = self.extractor.features(real), self.extractor.features(generated)
        values = {"fd_classifier": frechet_distance(a, b), "kid_classifier": 1000 * kernel_distance(a, b)}
        # The inception score asks how varied the classes are; turns of an image say nothing of that.
        if self.extractor.name == CLASSES:
            values["is_classifier"] = inception_score(self.extractor.probabilities(generated))[0]
        return values | precision_recall_density_coverage(a, b, k=self.neighbours)

    def floor(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of real images against other real images: the best that a generator can expect.

        Neither extractor nor any family was fitted to validation or test images, so each seed compares two random
        halves of the two splits together.
        """
        values, pool = [], np.concatenate(self.splits)
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(len(pool))
            values.append(self.compare(pool[order[: self.n]], pool[order[self.n : 2 * self.n]]))
        return self._record("floor", "floor", values, seeds, compared="random halves of validation and test split")

    def noise(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of independent uniform pixels: what knowing nothing scores."""
        shape = self.reference.images.shape
        draws = (np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in seeds)
        return self._record("noise", "noise", [self.compare(self.reference.images, draw) for draw in draws], seeds)

    def family(self, model: Any, samples: ImageSet, seeds: Sequence[int], *, ema: bool | None) -> dict[str, Any]:
        """Return the record of one family: its samples against the test split, and its likelihood there.

        Args:
            model: a fitted family; asked for its name, its likelihood in words, and `log_prob` or `elbo`.
            samples: as many images for each seed, in the order of the seeds.
            seeds: what the samples were drawn with.
            ema: whether the weights are averaged; None where the family has none.
        """
        sets = samples.images.reshape(len(seeds), -1, *samples.shape)
        if sets.shape[1] < self.n:
            raise SimulacraError(
                f"{model.name} has {sets.shape[1]} samples a seed where {self.n} are compared; "
                "run `kedro run --pipeline generate` with the present generation.n"
            )
        values = [
            self.compare(self.reference.images, images[: self.n]) | self._likelihood(model, seed)
            for images, seed in zip(sets, seeds, strict=True)
        ]
        return self._record(model.name, "family", values, seeds, ema=ema, likelihood=model.likelihood)

    def _likelihood(self, model: Any, seed: int) -> dict[str, float]:
        """Return held-out bits per dimension under the key of what they are: exact, or a bound."""
        n_dims = int(np.prod(self.reference.shape))
        for method, key in (("log_prob", "bits_per_dim"), ("elbo", "elbo_bits_per_dim")):
            if hasattr(model, method):
                name = f"{key}_binary" if model.binary else key
                return {name: bits_per_dim(getattr(model, method)(self.reference.images, seed=seed), n_dims)}
        return {}

    def _record(
        self, row: str, role: str, values: Sequence[dict[str, float]], seeds: Sequence[int], **about: Any
    ) -> dict[str, Any]:
        """Return a row of the leaderboard with its passport."""
        passport = {
            "extractor": dict(self.extractor.describe()),
            "n_real": self.n,
            "n_generated": self.n,
            "compared": "generated images with the test split",
            "reference_sha256": self.reference.fingerprint(),
            "neighbours": self.neighbours,
            "seeds": list(seeds),
            "ema": None,
            "likelihood": None,
            "versions": library_versions(),
        } | about
        metrics = {key: summarise([value[key] for value in values]) for key in values[0]}
        return {
            "row": row,
            "role": role,
            "metrics": metrics,
            "passport": passport,
            "passport_id": passport_id(passport),
        }

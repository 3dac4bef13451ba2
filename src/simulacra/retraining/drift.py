"""Drift of inputs: whether fresh data could come from where the data came from that a model was fitted to.

References:
    David Lopez-Paz, Maxime Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017, arXiv:1610.06545.
    Sture Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.
    Julian Besag, Peter Clifford, Sequential Monte Carlo p-values, Biometrika 78, 1991.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.features import check_features
from simulacra.metrics.significance import holm

Floats = NDArray[np.float64]

ROWS = 500
"""Rows a side that a test looks at, at most."""
FOLDS = 5
PERMUTATIONS = 499
"""Relabellings at most; a p-value is no less than one in five hundred."""
EXCEEDANCES = 20
"""Relabellings that do as well as the truth, after which no small p-value can come any more."""
FEWEST = 2 * FOLDS
"""Rows a side below which nothing is tested."""
LEVEL = 0.05
"""Corrected p-value below which a statistic is said to have moved."""
INK = 0.1
"""Share of full brightness by which a pixel differs from the background that counts as ink."""
KINDS = ("letters", "capitals", "digits", "blanks", "other characters")


class ClassifierTest(NamedTuple):
    """What a classifier finds that was asked which side a row is from.

    Args:
        accuracy: share of rows that it is right about, none of which it was fitted to; 0.5 says that it cannot tell.
        p: chance of that accuracy or more where both sides are of one distribution.
        n: rows a side.
    """

    accuracy: float
    p: float
    n: int


class StatisticTest(NamedTuple):
    """What a Kolmogorov–Smirnov test finds of one statistic.

    Args:
        distance: largest difference of the two distribution functions, 0 to 1.
        p: corrected by Holm's method for the number of statistics.
        before: mean of the older side.
        after: mean of the newer side.
        moved: whether p is below `LEVEL`.
    """

    distance: float
    p: float
    before: float
    after: float
    moved: bool


@dataclass(frozen=True)
class DriftReport:
    """Both tests of one pair of data sets.

    Args:
        classifier: of features, or of all statistics together.
        statistics: by name.
    """

    classifier: ClassifierTest
    statistics: Mapping[str, StatisticTest]

    @property
    def p(self) -> float:
        """Chance that either test finds as much where there is no drift (Bonferroni)."""
        return min(1.0, 2 * min([self.classifier.p, *(test.p for test in self.statistics.values())]))

    @property
    def moved(self) -> list[str]:
        """Names of the statistics that moved, the clearest first."""
        names = [name for name, test in self.statistics.items() if test.moved]
        return sorted(names, key=lambda name: (self.statistics[name].p, -self.statistics[name].distance))

    def record(self) -> dict[str, Any]:
        """Return everything, fit for JSON."""
        return {
            "p": self.p,
            "moved": self.moved,
            "classifier": self.classifier._asdict(),
            "statistics": {name: test._asdict() for name, test in self.statistics.items()},
        }


def look_for_drift(
    before: Mapping[str, Floats],
    after: Mapping[str, Floats],
    *,
    features: tuple[ArrayLike, ArrayLike] | None = None,
    rows: int = ROWS,
    seed: int = 0,
) -> DriftReport:
    """Return what both tests find between what a model was fitted to and fresh data.

    Args:
        before: statistics of the former, by name, (n,) each.
        after: the same of the latter, (m,) each.
        features: of both, for the classifier, (n, d) and (m, d); None for the statistics themselves.
        rows: a side that are looked at, at most, drawn by the seed.
        seed: of rows and relabellings.

    Raises:
        SimulacraError: where there are fewer than `FEWEST` rows, numbers are not finite, or names or shapes differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> before, after = ({"ink": rng.normal(mean, 1, 200), "edges": rng.normal(0, 1, 200)} for mean in (0, 2))
        >>> look_for_drift(before, after).moved
        ['ink']
    """
    one, other = (columns(before), columns(after)) if features is None else features
    return DriftReport(
        classifier_test(one, other, rows=rows, seed=seed), statistic_tests(before, after, rows=rows, seed=seed)
    )


def classifier_test(
    before: ArrayLike,
    after: ArrayLike,
    *,
    rows: int = ROWS,
    permutations: int = PERMUTATIONS,
    exceedances: int = EXCEEDANCES,
    seed: int = 0,
) -> ClassifierTest:
    """Return how well a logistic regression tells the two sides apart, and the chance of that where they are alike.

    Equal numbers of rows of both sides are dealt into `FOLDS` parts; each part is judged by a classifier fitted to the
    others. Classifiers that share most of their rows err together, so that their hits are no independent trials and the
    exact binomial test of Lopez-Paz and Oquab, meant for a single held-out part, rejects too often (Noirhomme et al.
    2014, doi:10.1016/j.nicl.2014.04.004): in 11 of 100 pairs of 50 rows and 10 columns of one distribution where 5 were
    asked for. The chance is therefore that of relabelled rows, each time fitted anew: where both sides are of one
    distribution, all labellings are alike, and the test holds its level for any n and d.

    Args:
        before: features, (n, d).
        after: features, (m, d).
        rows: a side, at most, drawn by the seed.
        permutations: relabellings, at most; the smallest p-value is 1 / (permutations + 1).
        exceedances: relabellings that do as well, after which it ends.
        seed: of rows, parts and relabellings.

    Raises:
        SimulacraError: where there are fewer than `FEWEST` rows a side, some are not finite, or dimensions differ.
    """
    one, other = _sides(before, after)
    rng = np.random.default_rng(seed)
    n = min(len(one), len(other), rows)
    pool = np.concatenate([one[rng.permutation(len(one))[:n]], other[rng.permutation(len(other))[:n]]])
    truth = _hits(pool)
    p = sequential_p_value(truth, lambda: _hits(rng.permutation(pool)), permutations, exceedances)
    return ClassifierTest(truth / len(pool), p, n)


def sequential_p_value(truth: float, draw: Callable[[], float], draws: int, exceedances: int) -> float:
    """Return the chance of a value as large as the truth, by draws of what chance alone gives.

    The draws end early, once so many are as large, with a p-value that is as valid: below any α with a probability of
    α at most (Besag and Clifford 1991).

    Example:
        >>> sequential_p_value(3.0, iter([1, 2, 3, 2, 4]).__next__, draws=99, exceedances=2)
        0.4
    """
    as_large = 0
    for drawn in range(1, draws + 1):
        as_large += draw() >= truth
        if as_large == exceedances:
            return as_large / drawn
    return (as_large + 1) / (draws + 1)


def statistic_tests(
    before: Mapping[str, Floats], after: Mapping[str, Floats], *, rows: int = ROWS, seed: int = 0
) -> dict[str, StatisticTest]:
    """Return a two-sample Kolmogorov–Smirnov test of every statistic, corrected for their number by Holm's method.

    Args:
        before: by name, (n,) each.
        after: the same names, (m,) each.
        rows: a side, at most, drawn by the seed.
        seed: of the rows.

    Raises:
        SimulacraError: as `look_for_drift` does.
    """
    from scipy.stats import ks_2samp

    if set(before) != set(after):
        raise SimulacraError(
            f"drift compares the same statistics of both sides; these are of one side only: "
            f"{', '.join(sorted({*before} ^ {*after}))}"
        )
    one, other = _sides(columns(before), columns(after))
    rng = np.random.default_rng(seed)
    one, other = (side[rng.permutation(len(side))[:rows]] for side in (one, other))
    found = {name: ks_2samp(one[:, place], other[:, place]) for place, name in enumerate(before)}
    corrected = holm({name: float(test.pvalue) for name, test in found.items()})
    means = zip(one.mean(axis=0), other.mean(axis=0), strict=True)
    return {
        name: StatisticTest(float(found[name].statistic), corrected[name], float(a), float(b), corrected[name] < LEVEL)
        for name, (a, b) in zip(before, means, strict=True)
    }


def columns(statistics: Mapping[str, Floats]) -> Floats:
    """Return statistics as features, (n, d), in the order of their names.

    Raises:
        SimulacraError: where there are none, or they are of different lengths.

    Example:
        >>> columns({"b": np.array([1.0, 2.0]), "a": np.array([3.0, 4.0])}).tolist()
        [[1.0, 3.0], [2.0, 4.0]]
    """
    lengths = {name: len(values) for name, values in statistics.items()}
    if len(set(lengths.values())) != 1:
        raise SimulacraError(f"drift needs statistics of equally many rows, one at least; got {lengths}")
    return np.stack([np.asarray(values, np.float64) for values in statistics.values()], axis=1)


def image_statistics(images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Return what a reader can name of each image, by name, (n,) each.

    Returns:
        mean intensity and contrast (standard deviation of the pixels) in grey levels; ink share, of pixels that differ
        from the median of the border by more than a tenth of full brightness; horizontal and vertical centre of mass of
        that difference, 0 at the left or top edge, 1 at the other, 0.5 where there is none; edge energy, the root of
        the mean squared difference of neighbouring pixels, in grey levels.

    Raises:
        SimulacraError: where images are not uint8 of shape (n, channels, height, width), two pixels a side at least.

    Example:
        >>> image = np.zeros((1, 1, 5, 5), np.uint8)
        >>> image[0, 0, 2, 3] = 250
        >>> {name: round(float(value[0]), 2) for name, value in image_statistics(image).items()}["ink share"]
        0.04
    """
    if images.dtype != np.uint8 or images.ndim != 4 or min(images.shape[2:], default=0) < 2:
        raise SimulacraError(
            "images must be uint8 of shape (n, channels, height, width), two pixels a side at least, "
            f"got {images.dtype} of shape {images.shape}"
        )
    parts = [_image_statistics(images[start : start + ROWS]) for start in range(0, max(1, len(images)), ROWS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def text_statistics(texts: Sequence[str]) -> dict[str, Floats]:
    """Return what a reader can name of each text, by name, (n,) each.

    Returns:
        length in characters; share of letters, of capitals among all characters, of digits, of blanks and of other
        characters, 0 in an empty text; mean word length in characters, words being what blanks part.

    Example:
        >>> {name: round(float(value[0]), 2) for name, value in text_statistics(["Call 112!"]).items()}
        ... # doctest: +NORMALIZE_WHITESPACE
        {'length': 9.0, 'letters': 0.44, 'capitals': 0.11, 'digits': 0.33, 'blanks': 0.11, 'other characters': 0.11,
         'mean word length': 4.0}
    """
    rows = np.array([_text_statistics(text) for text in texts], np.float64).reshape(len(texts), len(KINDS) + 2)
    return dict(zip(("length", *KINDS, "mean word length"), rows.T.copy(), strict=True))


def _hits(pool: Floats) -> int:
    """Return how many rows are told right, the first half being of one side, the second of the other."""
    from sklearn.linear_model import LogisticRegression

    n = len(pool) // 2
    sides = np.repeat([0, 1], n)
    # Rows come in no order, so that parts by position are parts at random, with as many of each side.
    parts = np.tile(np.arange(n) % FOLDS, 2)
    hits = 0
    for part in range(FOLDS):
        unseen = parts == part
        mean, scale = pool[~unseen].mean(axis=0), pool[~unseen].std(axis=0)
        rows = (pool - mean) / np.where(scale > 0, scale, 1)
        classifier = LogisticRegression(solver="newton-cholesky").fit(rows[~unseen], sides[~unseen])
        hits += int((classifier.predict(rows[unseen]) == sides[unseen]).sum())
    return hits


def _sides(before: ArrayLike, after: ArrayLike) -> tuple[Floats, Floats]:
    """Return both sides as checked arrays, (n, d) and (m, d)."""
    one = check_features(before, "features of what the model was fitted to", minimum=FEWEST)
    other = check_features(after, "features of fresh data", minimum=FEWEST)
    if one.shape[1] != other.shape[1]:
        raise SimulacraError(
            f"what the model was fitted to has {one.shape[1]} features a row, fresh data {other.shape[1]}; take both "
            "from the same extractor"
        )
    return one.astype(np.float64, copy=False), other.astype(np.float64, copy=False)


def _image_statistics(images: NDArray[np.uint8]) -> dict[str, Floats]:
    pixels = images.astype(np.float64)
    grey = pixels.mean(axis=1)
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1)
    off = np.abs(grey - np.median(border, axis=1)[:, None, None])
    inked = off > 255 * INK
    mass = np.where(inked, off, 0)
    down, across = np.diff(pixels, axis=2), np.diff(pixels, axis=3)
    squares = np.square(down).sum(axis=(1, 2, 3)) + np.square(across).sum(axis=(1, 2, 3))
    return {
        "mean intensity": pixels.mean(axis=(1, 2, 3)),
        "contrast": pixels.std(axis=(1, 2, 3)),
        "ink share": inked.mean(axis=(1, 2)),
        "horizontal centre of mass": _centre(mass.sum(axis=1)),
        "vertical centre of mass": _centre(mass.sum(axis=2)),
        "edge energy": np.sqrt(squares / (down[0].size + across[0].size if len(images) else 1)),
    }


def _centre(profiles: Floats) -> Floats:
    """Return where the mass of each row lies on average, 0 at its beginning, 1 at its end, 0.5 where there is none."""
    total = profiles.sum(axis=1)
    moment = profiles @ np.linspace(0, 1, profiles.shape[1])
    return np.where(total > 0, moment / np.where(total > 0, total, 1), 0.5)


def _text_statistics(text: str) -> list[float]:
    n = max(1, len(text))
    letters, digits = sum(map(str.isalpha, text)), sum(map(str.isdigit, text))
    capitals, blanks = sum(map(str.isupper, text)), sum(map(str.isspace, text))
    words = text.split()
    other = len(text) - letters - digits - blanks
    shares = [count / n for count in (letters, capitals, digits, blanks, other)]
    return [float(len(text)), *shares, sum(map(len, words)) / max(1, len(words))]

"""What is known of a champion and of today's texts when it is asked whether to train anew; documents are the units.

References:
    Scott Deerwester et al., Indexing by Latent Semantic Analysis, Journal of the American Society for Information
    Science 41, 1990.
    William G. Cochran, Sampling Techniques, third edition, 1977, section 6.4 (the variance of a ratio).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.text_set import TextSet
from simulacra.errors import SimulacraError
from simulacra.metrics.perplexity import Perplexity
from simulacra.retraining.drift import FEWEST, ROWS, DriftReport, look_for_drift, text_statistics
from simulacra.retraining.facts import facts_of, rows_of, seen_by
from simulacra.retraining.gate import Measured
from simulacra.retraining.reasons import Decay, Facts

if TYPE_CHECKING:
    from simulacra.models.language import LanguageModel

OPENING = 4096
"""Bytes of a document that are read, at most: one long document tells no more than another."""

GRAMS = (1, 3)
"""Characters in a row that are counted; words would be of no use where no blanks part them."""
VOCABULARY = 4096
"""Different ones that are counted, the most frequent."""
DIMENSIONS = 32
"""Directions in which documents differ most, which the classifier looks at."""

DECAY_METRIC = "bits_per_byte"

Document = tuple[TextSet, int]
"""A set and a row of it."""


def gather_texts(
    dataset: str,
    families: Sequence[str],
    champion: str | None,
    record: Mapping[str, Any],
    model: "LanguageModel | None",
    splits: Mapping[str, TextSet],
    settings: str,
    seed: int,
    *,
    stride: int | None = None,
    limit: int = 0,
) -> tuple[Facts, dict[str, Any]]:
    """Return the facts of a decision, and what the tests of drift found, fit for JSON, as `facts.gather` of images.

    Documents are fresh that the champion neither was fitted to nor was judged by; one that comes twice counts once.
    What part of the training data is new is told by bytes, since documents are of all lengths. The champion's decay is
    the difference of its bits a byte of fresh documents and of known ones that it was not fitted to. Of documents that
    are fewer than `FEWEST` nothing is said.

    Args:
        dataset: its name.
        families: all of the dataset's.
        champion: family of the champion; None where there is none.
        record: what was registered with it.
        model: the champion.
        splits: today's, by name.
        settings: hash of today's parameters of the champion's family, see `facts.settings_sha256`.
        seed: of the documents that are looked at, and of relabellings.
        stride: tokens from one window of the likelihood to the next; None for half a context.
        limit: bytes whose likelihood is measured, about; 0 for all of `ROWS` documents a side.
    """
    if champion is None or model is None:
        return Facts(dataset, families), {}
    rows = {name: rows_of(part) for name, part in splits.items()}
    fitted, known = seen_by(record)
    places = {row: (splits[name], place) for name, part in rows.items() for place, row in enumerate(part)}
    fresh = [places[row] for row in places if row not in known]
    old = [places[row] for row in places if row in known]
    held_out = [places[row] for row in places if row in known - fitted]
    report = decay = None
    if min(len(fresh), len(old)) >= FEWEST:
        report = _drift(_some(old, seed), _some(fresh, seed), seed)
    if min(len(fresh), len(held_out)) >= FEWEST:
        decay = _decay(model, _some(held_out, seed), _some(fresh, seed), stride, limit // 2)
    new = np.array([row not in fitted for row in rows["train"]])
    lengths = splits["train"].spans[:, 1] - splits["train"].spans[:, 0]
    new_share = float(lengths[new].sum() / lengths.sum())
    facts = facts_of(dataset, families, champion, record, rows["train"], settings, new_share, report, decay)
    found = report.record() if report else {}
    changed = record["settings_sha256"] != settings
    return facts, found | {"fresh": len(fresh), "known": len(old), "settings_changed": changed}


def gone(record: Mapping[str, Any], splits: Iterable[TextSet]) -> int:
    """Return how many different documents that a champion was fitted to are not among today's: removed, or changed."""
    fitted, _ = seen_by(record)
    return len(fitted.difference(*map(rows_of, splits)))


def text_features(texts: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Return texts by latent semantic analysis of their runs of characters, (n, d), with d of `DIMENSIONS` at most.

    What runs there are, and how rare, is found of all texts together, which knows nothing of sides: where both are of
    one distribution, no labelling is unlike another, and a test by relabellings holds its level.

    Args:
        texts: none of them empty.
        seed: of the decomposition.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(
        analyzer="char", ngram_range=GRAMS, lowercase=False, max_features=VOCABULARY, sublinear_tf=True
    )
    weights = counter.fit_transform(texts)
    d = max(1, min(DIMENSIONS, *(side - 1 for side in weights.shape)))
    features: NDArray[np.float64] = TruncatedSVD(d, random_state=seed).fit_transform(weights)
    return features


def measured(parts: Sequence[Perplexity]) -> Measured:
    """Return the bits a byte of documents together, and their spread about it.

    Documents are independent, tokens are not: as a ratio of two sums its standard error is the returned deviation over
    the root of the documents' number.

    Example:
        >>> two = [Perplexity(bits * math.log(2), 10, 10, 10, 8, 4) for bits in (10, 30)]
        >>> value, std, n = measured(two)
        >>> value, round(std, 4), n
        (2.0, 1.4142, 2)
    """
    bits = np.array([part.nats for part in parts]) / math.log(2)
    n_bytes = np.array([part.n_bytes for part in parts])
    ratio = bits.sum() / n_bytes.sum()
    off = (bits - ratio * n_bytes) / n_bytes.mean()
    return Measured(float(ratio), float(np.sqrt(np.square(off).sum() / (len(off) - 1))), len(parts))


def n_tokens(model: "LanguageModel", text: str) -> int | None:
    """Return how many tokens a model reads a text as; None where it is over characters, and does not know one."""
    try:
        return len(model.begins) + len(model.encode(text))
    except SimulacraError:
        return None


def _drift(old: Sequence[Document], fresh: Sequence[Document], seed: int) -> DriftReport:
    """Return what both tests find, of runs of characters and of what a reader can name."""
    sides = [[_opening(document) for document in side] for side in (old, fresh)]
    features = text_features(sides[0] + sides[1], seed)
    before, after = (
        text_statistics(texts) | {"length": _lengths(side)} for texts, side in zip(sides, (old, fresh), strict=True)
    )
    return look_for_drift(before, after, features=(features[: len(old)], features[len(old) :]), seed=seed)


def _decay(
    model: "LanguageModel", held_out: Sequence[Document], fresh: Sequence[Document], stride: int | None, limit: int
) -> Decay | None:
    """Return how well the champion foretells known and fresh documents; None where it can tell too few of them."""
    sides = [list(_legible(model, side, limit)) for side in (held_out, fresh)]
    if min(map(len, sides)) < FEWEST:
        return None
    then, now = (measured([model.perplexity([text], stride=stride) for text in texts]) for texts in sides)
    return Decay(DECAY_METRIC, then, now)


def _some(documents: Sequence[Document], seed: int) -> list[Document]:
    """Return `ROWS` documents at most, in random order."""
    return [documents[place] for place in np.random.default_rng(seed).permutation(len(documents))[:ROWS]]


def _opening(document: Document) -> str:
    """Return a document's first bytes, cut off between characters."""
    texts, row = document
    start, end = texts.spans[row].tolist()
    return texts.content[start : min(end, start + OPENING)].decode(errors="ignore")


def _lengths(documents: Sequence[Document]) -> NDArray[np.float64]:
    """Return whole documents' lengths in bytes, (n,)."""
    return np.array([texts.spans[row, 1] - texts.spans[row, 0] for texts, row in documents], np.float64)


def _legible(model: "LanguageModel", documents: Sequence[Document], limit: int) -> Iterator[str]:
    """Yield the openings of documents that a model has tokens for, until there are enough."""
    n = n_bytes = 0
    for document in documents:
        text = _opening(document)
        if limit and n >= FEWEST and n_bytes >= limit:
            return
        # The first token is given: of one that is alone nothing is foretold.
        if (n_tokens(model, text) or 0) > 1:
            n, n_bytes = n + 1, n_bytes + len(text.encode())
            yield text

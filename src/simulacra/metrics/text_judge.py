"""The one evaluator of texts: likelihood of held-out documents, and what generated ones are like beside real ones."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from simulacra.data.text_set import TextSet
from simulacra.errors import SimulacraError
from simulacra.metrics.passport import library_versions, passport_id, summarise
from simulacra.metrics.perplexity import Perplexity
from simulacra.metrics.texts import copied, distinct, repetition

COPIED = 8
"""Words in a row that count as copied."""
POOL = 2**23
"""Bytes of the validation split that the floor's texts are taken from, at most."""


class Foretelling(Protocol):
    """A family of texts, as far as it is judged."""

    @property
    def name(self) -> str:
        """Its row."""

    def perplexity(self, texts: Iterable[str], *, stride: int | None = None, context: int | None = None) -> Perplexity:
        """Return the perplexity of documents."""


class TextJudge:
    """Measures texts, families of text, and real texts in their place.

    Args:
        train: the training documents, in which copies are looked for.
        validation: held-out documents that no family was fitted to.
        test: the documents whose likelihood is measured.
        stride: tokens from one window to the next; 0 for half a family's context.
        limit: bytes of test documents that are measured at most; 0 for all.
    """

    def __init__(self, train: TextSet, validation: TextSet, test: TextSet, *, stride: int, limit: int) -> None:
        self.train, self.validation, self.stride = train, validation, stride
        self.test = first_bytes(test, limit) if limit else test

    def describe(self, texts: Sequence[str]) -> dict[str, float]:
        """Return how varied texts are, how often they repeat themselves, and how much they have of the training set.

        What takes longer texts than there are is left out.
        """
        longest = max((len(text.split()) for text in texts), default=0)
        measures: dict[str, tuple[int, Callable[[], float]]] = {
            "distinct_2": (2, lambda: distinct(texts, 2)),
            "repetition_4": (4, lambda: repetition(texts)),
            "copied_8": (COPIED, lambda: copied(texts, self.train.passages(), COPIED)),
        }
        return {key: measure() for key, (words, measure) in measures.items() if longest >= words}

    def floor(self, words: int, n: int, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of held-out real texts, as many and as long as are generated: what to compare with."""
        pool = [word for text in first_bytes(self.validation, POOL) for word in text.split()]
        if len(pool) < words:
            raise SimulacraError(
                f"the validation split has {len(pool)} words, fewer than the {words} of one generated text; add text, "
                "or make language.tokens smaller"
            )
        values = []
        for seed in seeds:
            starts = np.random.default_rng(seed).integers(len(pool) - words + 1, size=n)
            values.append(self.describe([" ".join(pool[start : start + words]) for start in starts]))
        return self._record("floor", "floor", values, seeds)

    def noise(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the record of who knows nothing and takes all 256 bytes for equally likely: 8 bits a byte."""
        characters = sum(len(piece) for _, piece in self.test.pieces())
        guessed = {
            "perplexity": 256.0,
            "bits_per_byte": 8.0,
            "bits_per_character": 8.0 * self.test.n_bytes / characters,
        }
        return self._record("noise", "noise", [guessed] * len(seeds), seeds)

    def family(
        self, model: Foretelling, texts: Sequence[Sequence[str]], seeds: Sequence[int], *, ema: bool | None
    ) -> dict[str, Any]:
        """Return the record of one family: the test documents' likelihood, and what its texts are like.

        Args:
            model: a fitted family.
            texts: generated ones for each seed.
            seeds: what they were drawn with.
            ema: whether the weights are averaged; None where the family has none.
        """
        found = model.perplexity(self.test, stride=self.stride or None)
        likelihood = {
            "perplexity": found.per_token,
            "bits_per_byte": found.bits_per_byte,
            "bits_per_character": found.bits_per_character,
        }
        values = [self.describe(some) | likelihood for some in texts]
        return self._record(model.name, "family", values, seeds, ema=ema, likelihood=found.describe())

    def _record(
        self, row: str, role: str, values: Sequence[dict[str, float]], seeds: Sequence[int], **about: Any
    ) -> dict[str, Any]:
        passport = {
            "reference_sha256": self.test.fingerprint(),
            "training_sha256": self.train.fingerprint(),
            "seeds": list(seeds),
            "ema": None,
            "likelihood": None,
            "versions": library_versions(),
        } | about
        measured = [key for key in values[0] if all(key in value for value in values)]
        metrics = {key: summarise([value[key] for value in values]) for key in measured}
        return {
            "row": row,
            "role": role,
            "metrics": metrics,
            "passport": passport,
            "passport_id": passport_id(passport),
        }


def first_bytes(texts: TextSet, limit: int) -> TextSet:
    """Return the first documents, so many bytes in all; the last one is cut off at the end of a character."""
    spans, left = [], limit
    for start, end in texts.spans.tolist():
        if left <= 0:
            break
        stop = min(end, start + left)
        # A byte of the form 10xxxxxx goes on with a character.
        while start < stop < end and texts.content[stop : stop + 1][0] & 0xC0 == 0x80:
            stop -= 1
        if stop > start:
            spans.append((start, stop))
        left -= end - start
    return TextSet(texts.content, np.array(spans, np.int64).reshape(-1, 2), texts.alphabet)

"""The one split of texts into train, validation and test that every family and metric shares."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from simulacra.data.config import SplitConfig
from simulacra.data.split import Rows, deal_by_hash
from simulacra.data.text_set import TextSet
from simulacra.errors import SimulacraError

MIN_DOCUMENTS = 10
"""Documents from which whole ones are dealt; fewer could not meet the shares, and are cut."""


@dataclass(frozen=True)
class TextSplit:
    """The three sets that come of a split.

    Args:
        train: what families are fitted to.
        validation: what training may look at.
        test: what only the evaluation sees.
        config: shares and seed that made them.
        by: whether whole documents were dealt, by chance or by their content, or each was cut in three.
        duplicates_dropped: documents left out because an identical one lies in a split that must not leak.
    """

    train: TextSet
    validation: TextSet
    test: TextSet
    config: SplitConfig
    by: Literal["documents", "content", "position"]
    duplicates_dropped: int

    def record(self) -> dict[str, Any]:
        """Return what a reader needs to know the split again, fit for JSON."""
        sets = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "seed": self.config.seed,
            "shares": dict(zip(sets, self.config.shares, strict=True)),
            "by": self.by,
            "duplicates_dropped": self.duplicates_dropped,
            "splits": {
                name: {"n": len(part), "bytes": part.n_bytes, "fingerprint": part.fingerprint()}
                for name, part in sets.items()
            },
        }


def split_texts(texts: TextSet, config: SplitConfig) -> TextSplit:
    """Deal documents to train, validation and test by seed so that each gets its share of the bytes.

    A document lies whole in one split, and one identical to a document of test is dropped from validation and train,
    one identical to a document of validation from train. Of fewer than `MIN_DOCUMENTS` each is cut in three: the
    beginning for train, the end for test, at the ends of lines where there are any.

    Dealt by content, a document's place hangs on what it says and the seed alone, so that it is the same whatever
    others there are; a document that was changed counts as another one. Shares of the documents, not of the bytes, are
    then met, and on average only. So few documents that they would be cut are refused: what one is cut into moves as
    soon as text is added, and what a model was fitted to yesterday would be test text tomorrow. `source.separator`
    makes documents of a file's paragraphs.

    Example:
        >>> from simulacra.data.text_set import texts_of
        >>> split = split_texts(texts_of([f"document {n}" for n in range(20)]), SplitConfig())
        >>> len(split.train), len(split.validation), len(split.test), split.by
        (12, 4, 4, 'documents')

    Raises:
        SimulacraError: where a split would be empty, or content is to deal fewer than `MIN_DOCUMENTS`.
    """
    if config.by == "content":
        dealt, by = _deal_by_content(texts, config), "content"
        parts, dropped = [texts.take(rows) for rows in dealt], 0
    elif len(texts) < MIN_DOCUMENTS:
        parts, dropped, by = _cut(texts, config.shares), 0, "position"
    else:
        dealt, by = _deal(texts, config), "documents"
        parts, dropped = _without_duplicates([texts.take(rows) for rows in dealt])
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        if not len(part):
            raise SimulacraError(
                f"{texts.n_bytes:,} bytes in {len(texts)} documents leave nothing for the {name} split; add text, or "
                "change split's shares"
            )
    train, validation, test = parts
    return TextSplit(train, validation, test, config, by, dropped)  # type: ignore[arg-type]


def _deal_by_content(texts: TextSet, config: SplitConfig) -> list[Rows]:
    """Return the rows of train, validation and test, in an order that new documents do not change either."""
    if len(texts) < MIN_DOCUMENTS:
        raise SimulacraError(
            f"{len(texts)} documents are too few to be dealt by content, which takes {MIN_DOCUMENTS}: each would be "
            "cut in three, and at other places as soon as text is added. Give more of them (source.separator parts a "
            "file into documents, at blank lines for instance), or set split.by to order where the texts stay as they "
            "are"
        )
    salt = config.seed.to_bytes(8, "big")
    return deal_by_hash(
        [hashlib.sha256(salt + bytes.fromhex(each)).digest() for each in texts.digests()], config.shares
    )


def _deal(texts: TextSet, config: SplitConfig) -> list[Rows]:
    """Give each document, in random order, to the split that wants most bytes for its share."""
    lengths, held = texts.spans[:, 1] - texts.spans[:, 0], np.zeros(3)
    dealt: list[list[int]] = [[], [], []]
    for row in np.random.default_rng(config.seed).permutation(len(texts)):
        neediest = int(np.argmax(np.array(config.shares) * lengths.sum() - held))
        dealt[neediest].append(int(row))
        held[neediest] += lengths[row]
    return [np.array(rows, np.int64) for rows in dealt]


def _cut(texts: TextSet, shares: Sequence[float]) -> list[TextSet]:
    spans: list[list[tuple[int, int]]] = [[], [], []]
    for start, end in texts.spans.tolist():
        places = [start]
        for share in np.cumsum(shares)[:-1]:
            places.append(_border(texts, max(places[-1], start + round(share * (end - start))), end))
        places.append(end)
        for part in range(3):
            if places[part] < places[part + 1]:
                spans[part].append((places[part], places[part + 1]))
    return [TextSet(texts.content, np.array(part, np.int64).reshape(-1, 2), texts.alphabet) for part in spans]


LOOK = 4096
"""Bytes in which the end of a line is looked for."""


def _border(texts: TextSet, place: int, end: int) -> int:
    """Return the first place from here on where a line begins, or, where lines are long, a character."""
    near = texts.content[place : min(place + LOOK, end)]
    line = near.find(b"\n")
    if line >= 0:
        return place + line + 1
    return place + next((offset for offset, byte in enumerate(near) if byte & 0xC0 != 0x80), len(near))


def _without_duplicates(parts: Sequence[TextSet]) -> tuple[list[TextSet], int]:
    digests = [np.array(part.digests()) for part in parts]
    kept = [
        parts[split].take(np.flatnonzero(~np.isin(digests[split], np.concatenate([*digests[split + 1 :], [""]]))))
        for split in range(len(parts))
    ]
    return kept, sum(map(len, parts)) - sum(map(len, kept))

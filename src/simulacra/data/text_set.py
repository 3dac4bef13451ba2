"""The container in which texts travel from ingest to report; they may be larger than memory."""

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

PART = 2**20
"""Bytes that are read at once of what may be larger than memory."""


class Bytes(Protocol):
    """Bytes that can be read in parts: `bytes` themselves, or a file's."""

    def __len__(self) -> int:
        """Count them."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Return some of them."""


class FileBytes:
    """A file's bytes, read when they are asked for.

    Unlike a memory-mapped file, what was read does not stay in the process's memory.

    Args:
        path: the file; it stays open, so that what is read stays the same when another takes its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._size = self._file.seek(0, 2)

    def __len__(self) -> int:
        """Count the bytes."""
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        """Return the bytes from one place to another."""
        start, stop, _ = part.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))

    def __reduce__(self) -> tuple[type["FileBytes"], tuple[Path]]:
        """Be opened anew in another process."""
        return FileBytes, (self.path,)


@dataclass(frozen=True)
class TextSet:
    """Documents at rest.

    Args:
        content: UTF-8 of all documents.
        spans: first byte of each document and the one after its last, (n, 2).
        alphabet: all characters of the corpus that the documents come from, in order, as class names are of all data.

    Raises:
        SimulacraError: where a span is empty or reaches beyond the content.

    Example:
        >>> two = texts_of(["To be,", "or not"])
        >>> len(two), two[1], two.n_bytes, two.alphabet
        (2, 'or not', 12, ' ,Tbenort')
    """

    content: Bytes
    spans: NDArray[np.int64]
    alphabet: str

    def __post_init__(self) -> None:
        """Refuse what no later stage could use."""
        if self.spans.ndim != 2 or self.spans.shape[1] != 2 or self.spans.dtype != np.int64:
            raise SimulacraError(f"spans must be int64 of shape (n, 2), got {self.spans.dtype} {self.spans.shape}")
        starts, ends = self.spans.T
        if len(self.spans) and not (0 <= starts.min() and (starts < ends).all() and ends.max() <= len(self.content)):
            raise SimulacraError(f"a document is empty, or reaches beyond the {len(self.content)} bytes of the texts")

    def __len__(self) -> int:
        """Count the documents."""
        return len(self.spans)

    def __getitem__(self, row: int) -> str:
        """Return one document."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"document {row} of {len(self)}")
        start, end = self.spans[row]
        return self.content[start:end].decode()

    def __iter__(self) -> Iterator[str]:
        """Yield the documents."""
        return (self[row] for row in range(len(self)))

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents."""
        return int((self.spans[:, 1] - self.spans[:, 0]).sum())

    @property
    def n_pieces(self) -> int:
        """Number of `pieces`."""
        return int((-(-(self.spans[:, 1] - self.spans[:, 0]) // PART)).sum())

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """Yield every document in parts of `PART` bytes at most, each with the document's row."""
        for row, (start, end) in enumerate(self.spans):
            for place in range(start, end, PART):
                yield row, self.content[place : min(place + PART, end)]

    def pieces(self) -> Iterator[tuple[int, str]]:
        """Yield every document as text in pieces of about `PART` characters at most, each with the document's row."""
        last, decoder = -1, codecs.getincrementaldecoder("utf-8")()
        for row, part in self.parts():
            if row != last:
                last, decoder = row, codecs.getincrementaldecoder("utf-8")()
            yield row, decoder.decode(part)

    def passages(self, overlap: int = 64) -> Iterator[str]:
        """Yield all documents in passages of about `PART` characters at most, cut between words.

        Each but a document's first begins with so many of the last words of the one before, so that no run of so many
        words is lost.

        Example:
            >>> list(texts_of(["to be", "or not"]).passages())
            ['to be', 'or not']
        """
        held = ""
        for (row, piece), (following, _) in pairwise(chain(self.pieces(), [(-1, "")])):
            text = held + piece
            if following != row:
                yield text
                held = ""
                continue
            cut = max(text.rfind(" "), text.rfind("\n"))
            if cut < 0:  # what has no blanks is cut where its part ends
                yield text
                held = ""
                continue
            yield text[:cut]
            words = text[:cut].rsplit(None, overlap)
            held = text[len(words[0]) :] if len(words) > overlap else text

    def digests(self) -> list[str]:
        """Return the sha256 of every document, hexadecimal."""
        found = [hashlib.sha256() for _ in range(len(self))]
        for row, part in self.parts():
            found[row].update(part)
        return [digest.hexdigest() for digest in found]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "TextSet":
        """Return the given documents as a set of their own, which reads the same bytes."""
        return TextSet(self.content, self.spans[np.asarray(rows, np.int64)], self.alphabet)

    def fingerprint(self) -> str:
        """Return the sha256 of documents and alphabet, hexadecimal."""
        lengths = self.spans[:, 1] - self.spans[:, 0]
        digest = hashlib.sha256(repr((lengths.tolist(), self.alphabet)).encode())
        for _, part in self.parts():
            digest.update(part)
        return digest.hexdigest()


def texts_of(documents: Sequence[str]) -> TextSet:
    """Return documents that are in memory as a set.

    Raises:
        SimulacraError: for an empty document.
    """
    encoded = [document.encode() for document in documents]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return TextSet(b"".join(encoded), np.stack([ends[:-1], ends[1:]], 1), "".join(sorted(set("".join(documents)))))

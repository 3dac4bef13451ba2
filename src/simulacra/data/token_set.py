"""The container of tokens that language models learn from; a file's may be larger than memory."""

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

Ids = NDArray[np.uint16] | NDArray[np.uint32]

PART = 2**20


class FileTokens:
    """Tokens in a file that is gone with this object, read when they are asked for.

    Unlike a memory-mapped file's, what was read does not stay in the process's memory.

    Args:
        parts: the tokens, in parts, (n,) each.
        size: number of different tokens, which decides between two bytes a token and four.

    Example:
        >>> tokens = FileTokens([np.arange(3), np.arange(2)], size=3)
        >>> len(tokens), tokens[1:4]
        (5, array([1, 2, 0], dtype=uint16))
    """

    def __init__(self, parts: Iterable[NDArray[np.int64]], size: int) -> None:
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if size <= 2**16 else np.uint32)
        self._file, self._length = tempfile.TemporaryFile(), 0
        for part in parts:
            self._file.write(part.astype(self.dtype).data)
            self._length += len(part)

    def __len__(self) -> int:
        """Count the tokens."""
        return self._length

    def __getitem__(self, part: slice) -> Ids:
        """Return the tokens from one place to another."""
        start, stop, _ = part.indices(self._length)
        width = self.dtype.itemsize
        self._file.seek(start * width)
        return np.frombuffer(self._file.read(max(0, stop - start) * width), self.dtype)


@dataclass(frozen=True)
class TokenSet:
    """All documents' tokens in one row, each document after the token that begins it.

    Args:
        ids: uint16 or uint32, (n,), in memory or in a file.
        context: tokens that are looked back on; an example has one more.

    Raises:
        SimulacraError: where there are too few tokens for one example.

    Example:
        >>> len(TokenSet(np.arange(10, dtype=np.uint16), context=4))
        2
    """

    ids: Ids | FileTokens
    context: int

    def __post_init__(self) -> None:
        """Refuse what no example can be taken from."""
        if len(self.ids) <= self.context:
            raise SimulacraError(
                f"{len(self.ids)} tokens are too few for a context of {self.context}: add text, or make model.context "
                "smaller"
            )

    def __len__(self) -> int:
        """Count the examples that do not overlap."""
        return (len(self.ids) - 1) // self.context

    def windows(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the examples that begin at these tokens, (n, context + 1)."""
        return np.stack([self.ids[start : start + self.context + 1] for start in starts]).astype(np.int64)

    def fingerprint(self) -> str:
        """Return the sha256 of tokens and context, hexadecimal."""
        digest = hashlib.sha256(repr((self.ids.dtype.str, len(self.ids), self.context)).encode())
        for start in range(0, len(self.ids), PART):
            digest.update(np.ascontiguousarray(self.ids[start : start + PART]).data)
        return digest.hexdigest()

"""The container of tokens that language models learn from; a file's may be larger than memory."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

PART = 2**20


@dataclass(frozen=True)
class TokenSet:
    """All documents' tokens in one row, each document after the token that begins it.

    Args:
        ids: uint16 or uint32, (n,); may be memory-mapped.
        context: tokens that are looked back on; an example has one more.

    Raises:
        SimulacraError: where there are too few tokens for one example.

    Example:
        >>> len(TokenSet(np.arange(10, dtype=np.uint16), context=4))
        2
    """

    ids: NDArray[np.uint16] | NDArray[np.uint32]
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

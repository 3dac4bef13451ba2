"""The perplexity contract: a text's nats, and what they are per token, byte and character.

Perplexity is of a model and its tokenizer together, and longer tokens make it larger. Bits per byte and per character
are of the text alone, so that models with different tokenizers compare.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

Tokens = NDArray[np.int64]
Nats = NDArray[np.float64]
WINDOWS_AT_ONCE = 16


class Window(NamedTuple):
    """A part of a text that is read at once.

    Args:
        start: first token that is read.
        end: the one after the last.
        scored: first token that is scored; those before it are context only.
    """

    start: int
    end: int
    scored: int


@dataclass(frozen=True)
class Perplexity:
    """How well a model foretells a text, with the conditions of the number.

    The first token is given, and neither it nor its bytes and characters count: nothing comes before it.

    Args:
        nats: −log probability of all tokens that count.
        tokens: how many.
        n_bytes: of them, in UTF-8.
        characters: of them.
        context: most tokens that one prediction looks back on, the token itself included.
        stride: tokens from one window to the next.

    Example:
        >>> found = Perplexity(nats=math.log(2) * 30, tokens=10, n_bytes=40, characters=30, context=8, stride=4)
        >>> round(found.per_token, 6), found.bits_per_byte, found.bits_per_character
        (8.0, 0.75, 1.0)
    """

    nats: float
    tokens: int
    n_bytes: int
    characters: int
    context: int
    stride: int

    @property
    def per_token(self) -> float:
        """Perplexity: e to the mean nats of a token; 1 is certainty, the vocabulary's size is guessing."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of UTF-8; comparable between tokenizers."""
        return self.nats / math.log(2) / self.n_bytes

    @property
    def bits_per_character(self) -> float:
        """Bits a character; comparable between tokenizers, and between texts of one script."""
        return self.nats / math.log(2) / self.characters

    def describe(self) -> dict[str, Any]:
        """Return the conditions for the passport."""
        return {
            "context": self.context,
            "stride": self.stride,
            "tokens": self.tokens,
            "bytes": self.n_bytes,
            "characters": self.characters,
        }


def together(parts: Sequence[Perplexity]) -> Perplexity:
    """Return the perplexity of several texts under the same conditions as one.

    Raises:
        SimulacraError: where there are none, or their conditions differ.
    """
    conditions = {(part.context, part.stride) for part in parts}
    if len(conditions) != 1:
        raise SimulacraError(f"perplexities can be put together of one context and stride, got {sorted(conditions)}")
    totals = {key: sum(getattr(part, key) for part in parts) for key in ("nats", "tokens", "n_bytes", "characters")}
    return Perplexity(**totals, context=parts[0].context, stride=parts[0].stride)


def windows(n: int, *, context: int, stride: int) -> Iterator[Window]:
    """Yield windows that score each of n tokens but the first once, after as much context as the stride leaves.

    A window holds `context` tokens at most. With a stride of context − 1 each token's context begins at its window;
    with a smaller one every token but the first ones has context − stride tokens before it at least.

    Raises:
        SimulacraError: for a context below 2, and a stride that would leave tokens out.

    Example:
        >>> [tuple(window) for window in windows(8, context=4, stride=2)]
        [(0, 4, 1), (2, 6, 4), (4, 8, 6)]
    """
    if context < 2:
        raise SimulacraError(f"a context of {context} tokens foretells nothing; give 2 at least")
    if not 1 <= stride < context:
        raise SimulacraError(f"stride must lie between 1 and context - 1, which is {context - 1}, got {stride}")
    scored = 1
    for start in range(0, n, stride):
        if scored >= n:
            return
        end = min(start + context, n)
        yield Window(start, end, scored)
        scored = end


def token_nats(log_probs: Callable[[Tokens], Nats], ids: Tokens, *, context: int, stride: int) -> Nats:
    """Return −log p of every token but the first, (n − 1,), given those before it in its window.

    Args:
        log_probs: from windows of tokens (b, t) to the log probability of each but the first, (b, t − 1), in nats.
        ids: the text's tokens, (n,).
        context: tokens a window.
        stride: tokens from one window to the next.

    Raises:
        SimulacraError: as `windows` does, and where a model's numbers are not finite.
    """
    nats = np.zeros(max(0, len(ids) - 1))
    alike = groupby(windows(len(ids), context=context, stride=stride), key=lambda window: window.end - window.start)
    for _, group in alike:
        found = list(group)
        for first in range(0, len(found), WINDOWS_AT_ONCE):
            some = found[first : first + WINDOWS_AT_ONCE]
            rows = log_probs(np.stack([ids[window.start : window.end] for window in some]))
            for window, row in zip(some, rows, strict=True):
                nats[window.scored - 1 : window.end - 1] = -row[window.scored - window.start - 1 :]
    bad = int(np.count_nonzero(~np.isfinite(nats)))
    if bad:
        raise SimulacraError(f"the log probabilities of {bad} of {len(nats)} tokens are not finite: the model diverged")
    return nats


def perplexity(
    log_probs: Callable[[Tokens], Nats], ids: Tokens, text: str, *, first: str, context: int, stride: int
) -> Perplexity:
    """Return the perplexity of a text.

    Args:
        log_probs: as in `token_nats`.
        ids: the text's tokens.
        text: the text itself.
        first: the first token's part of it, which does not count; empty for a token that only marks the beginning.
        context: tokens a window.
        stride: tokens from one window to the next.

    Raises:
        SimulacraError: as `token_nats` does, and for a text of one token.
    """
    if len(ids) < 2:
        raise SimulacraError("a text of one token has no perplexity: nothing is foretold; give a longer text")
    nats = token_nats(log_probs, ids, context=context, stride=stride)
    rest = text.removeprefix(first)
    return Perplexity(float(nats.sum()), len(nats), len(rest.encode()), len(rest), context, stride)

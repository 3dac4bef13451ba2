"""Generated texts in numbers: how varied they are, how often they repeat themselves, and how much they copied.

All count n-grams of words, that is of what stands between blanks, so that no tokenizer has a say.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from simulacra.errors import SimulacraError

Gram = tuple[str, ...]


def grams(words: Sequence[str], n: int) -> Iterator[Gram]:
    """Yield the runs of n words.

    Example:
        >>> list(grams(["to", "be", "or"], 2))
        [('to', 'be'), ('be', 'or')]
    """
    return zip(*(words[start:] for start in range(n)), strict=False)


def distinct(texts: Sequence[str], n: int) -> float:
    """Return the share of different n-grams among all n-grams of all texts, in (0, 1]; higher is more varied.

    It falls with the number and length of the texts, so that only equal amounts compare. Source: Li et al. (2016),
    arXiv:1510.03055.

    Raises:
        SimulacraError: where no text has n words.
    """
    return _share_of_different([gram for text in texts for gram in grams(text.split(), n)], n)


def repetition(texts: Sequence[str], n: int = 4) -> float:
    """Return the share of n-grams that stood in the same text before, in [0, 1), mean over texts; lower is better.

    Texts of fewer than n words are left out. Source: Welleck et al. (2020), arXiv:1908.04319, section 6.

    Raises:
        SimulacraError: where no text has n words.
    """
    long = [found for text in texts if (found := list(grams(text.split(), n)))]
    if not long:
        raise SimulacraError(_too_short(n))
    return sum(1 - _share_of_different(found, n) for found in long) / len(long)


def copied(texts: Sequence[str], training: Iterable[str], n: int = 8) -> float:
    """Return the share of the texts' n-grams that stand in the training texts too, in [0, 1]; lower is less copied.

    The training texts are gone through once and none is kept, so that they may be larger than memory. A held-out text's
    own share is what to compare with: phrases that everybody uses are no copies. Source: Carlini et al. (2023),
    arXiv:2202.07646, for the question.

    Raises:
        SimulacraError: where no text has n words.
    """
    own = [gram for text in texts for gram in grams(text.split(), n)]
    if not own:
        raise SimulacraError(_too_short(n))
    wanted, found = set(own), set[Gram]()
    for text in training:
        found.update(wanted.intersection(grams(text.split(), n)))
    return sum(gram in found for gram in own) / len(own)


def _share_of_different(found: Sequence[Gram], n: int) -> float:
    if not found:
        raise SimulacraError(_too_short(n))
    return len(set(found)) / len(found)


def _too_short(n: int) -> str:
    return f"no text has {n} words, so there is no n-gram to count; generate longer texts"


class Nearest(NamedTuple):
    """Where a text comes closest to the training texts.

    Args:
        shared: words in a row that both have, the most there are.
        passage: the training text around them.
    """

    shared: int
    passage: str


AROUND = 12
"""Words of a passage before and after those that are shared."""


def nearest(text: str, training: Iterable[str]) -> Nearest:
    """Return the passage of the training texts that shares the longest run of words with a text.

    Example:
        >>> nearest("to be or to go", ["not to be or so", "to go"])
        Nearest(shared=3, passage='not to be or so')
    """
    words, best, passage = text.split(), 0, ""
    wanted = set(grams(words, 1))
    for other in training:
        theirs = other.split()
        for place in range(len(theirs)):
            # Longer runs only: the set holds the text's own of one word more than the best so far.
            while tuple(theirs[place : place + best + 1]) in wanted:
                best += 1
                passage = " ".join(theirs[max(0, place - AROUND) : place + best + AROUND])
                wanted = set(grams(words, best + 1))
    return Nearest(best, passage)

"""Texts to tokens and back: characters, bytes, or byte-level byte-pair encoding (Sennrich et al. 2016, Radford 2019).

All are tokenizers of the library of this name, so that one file of JSON keeps any of them.
"""

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, decoders, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer

from simulacra.errors import SimulacraError

Kind = Literal["character", "byte", "bpe"]
END = "<|end|>"
"""The token between documents, which begins each; no text holds it, since it is never looked for in one."""

CUT = 2**14
"""Characters, about, that one core tokenises at once."""

BORDER = re.compile(r"(?<=\S) (?=\S)")
"""Where no token reaches across: a single space belongs to the word that follows it."""


class Tokenizer:
    """Turns text into token indices and back, without loss.

    Args:
        library: what does the work; its vocabulary holds `END`.

    Example:
        >>> tokenizer = build("character", alphabet="abc", texts=[], size=0)
        >>> tokenizer.encode("cab"), tokenizer.decode([2, 0, 1]), tokenizer.size
        (array([2, 0, 1]), 'cab', 4)
    """

    def __init__(self, library: LibraryTokenizer) -> None:
        self._library = library
        self._library.encode_special_tokens = True
        self.size = library.get_vocab_size()
        self.end = library.get_vocab()[END]
        self._known = frozenset(library.get_vocab()) if isinstance(library.model, WordLevel) else None

    def knows(self, alphabet: str) -> bool:
        """Tell whether each of these characters has tokens."""
        return self._known is None or self._known.issuperset(alphabet)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the tokens of a text, without `END`.

        Raises:
            SimulacraError: for a character that is none of a character tokenizer's.
        """
        if self._known is not None:
            strange = next((place for place, letter in enumerate(text) if letter not in self._known), None)
            if strange is not None:
                raise SimulacraError(
                    f"the tokenizer does not know the character {text[strange]!r} (U+{ord(text[strange]):04X}, number "
                    f"{strange} of the text): leave it out, or train with tokenizer: byte or bpe"
                )
        found = self._library.encode_batch_fast(_cut(text), add_special_tokens=False)
        return np.concatenate([np.array(each.ids, np.int64) for each in found])

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens; bytes that are no character become U+FFFD, and `END` is left out."""
        return str(self._library.decode([int(each) for each in ids if each != self.end], skip_special_tokens=False))

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return str(self._library.to_str())

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Return what `to_json` kept."""
        return cls(LibraryTokenizer.from_str(text))


def build(kind: Kind, *, alphabet: str, texts: Iterable[str], size: int) -> Tokenizer:
    """Return a tokenizer of a kind.

    Args:
        kind: "character" has a token for each of the alphabet's, "byte" one for each of 256, "bpe" those and the pairs
            that are most frequent in the texts.
        alphabet: all characters of the corpus.
        texts: what pairs are counted in; only for "bpe".
        size: tokens in all, `END` among them; only for "bpe".

    Raises:
        SimulacraError: for a "bpe" of less than 257 tokens.
    """
    if kind == "character":
        library = LibraryTokenizer(WordLevel({letter: number for number, letter in enumerate(alphabet)}, unk_token=END))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        library.decoder = decoders.Fuse()
    else:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        library = LibraryTokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "bpe")
        library.decoder = decoders.ByteLevel()
        if kind == "bpe":
            if size <= len(letters):
                raise SimulacraError(f"a bpe needs {len(letters) + 1} tokens at least, got tokenizer_size {size}")
            trainer = BpeTrainer(vocab_size=size - 1, initial_alphabet=letters, show_progress=False)
            # The library holds 256 of them at once.
            library.train_from_iterator((part for text in texts for part in _cut(text)), trainer)
    library.add_special_tokens([END])
    return Tokenizer(library)


def _cut(text: str) -> list[str]:
    """Return a text in parts whose tokens are its own."""
    parts, start = [], 0
    while border := BORDER.search(text, start + CUT):
        parts.append(text[start : border.start()])
        start = border.start()
    return [*parts, text[start:]]

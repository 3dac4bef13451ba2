import hashlib

import numpy as np
import pytest

from simulacra.data import text_set
from simulacra.data.text_set import TextSet, texts_of
from simulacra.errors import SimulacraError
from simulacra.metrics.texts import copied, grams


def documents(rng: np.random.Generator) -> list[str]:
    """Texts of words of one to nine letters, some of two bytes, between blanks and line ends."""
    letters = np.array(list("abcdeé"))
    words = ["".join(rng.choice(letters, size=rng.integers(1, 10))) for _ in range(600)]
    blanks = rng.choice([" ", "\n", "  "], size=600)
    whole = [word + blank for word, blank in zip(words, blanks, strict=True)]
    return ["".join(whole[:400]), "".join(whole[400:410]), "".join(whole[410:])]


@pytest.mark.parametrize("part", [64, 257, 10_000])
def test_passages_lose_no_run_of_words(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_set, "PART", part)
    texts = texts_of(documents(np.random.default_rng(0)))
    passages = list(texts.passages(overlap=5))
    assert (len(passages) == 3) == (part == 10_000) and max(map(len, passages)) <= part + 6 * 11
    for n in range(1, 6):
        wanted = {gram for text in texts for gram in grams(text.split(), n)}
        assert {gram for passage in passages for gram in grams(passage.split(), n)} == wanted
    assert copied(list(texts), texts.passages(overlap=8), 8) == 1


def test_what_has_no_blanks_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_set, "PART", 10)
    assert list(texts_of(["x" * 25]).passages()) == ["x" * 10, "x" * 10, "x" * 5]


def test_pieces_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_of(["x" * 25, "y", "zz" * 10])
    for part, pieces in ((10, 6), (5, 10), (100, 3)):
        monkeypatch.setattr(text_set, "PART", part)
        assert texts.n_pieces == len(list(texts.pieces())) == pieces


def test_digests_are_those_of_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_set, "PART", 7)
    whole = documents(np.random.default_rng(1))
    assert texts_of(whole).digests() == [hashlib.sha256(text.encode()).hexdigest() for text in whole]


def test_a_span_beyond_the_content_is_refused() -> None:
    with pytest.raises(SimulacraError, match="beyond the 3 bytes"):
        TextSet(b"abc", np.array([[0, 4]]), "abc")
    with pytest.raises(SimulacraError, match="a document is empty"):
        TextSet(b"abc", np.array([[1, 1]]), "abc")

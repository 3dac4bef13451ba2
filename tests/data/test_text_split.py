import numpy as np
import pytest

from simulacra.data.config import SplitConfig
from simulacra.data.text_set import TextSet, texts_of
from simulacra.data.text_split import split_texts
from simulacra.errors import SimulacraError


def documents(n: int, seed: int = 0) -> TextSet:
    rng = np.random.default_rng(seed)
    return texts_of([f"document {row} " + "word " * int(rng.integers(1, 80)) for row in range(n)])


@pytest.mark.parametrize("n", [10, 33, 400])
def test_whole_documents_are_dealt_by_their_share_of_bytes(n: int) -> None:
    texts = documents(n)
    split = split_texts(texts, SplitConfig())
    parts = [split.train, split.validation, split.test]
    assert sorted(text for part in parts for text in part) == sorted(texts)
    assert split.by == "documents" and split.duplicates_dropped == 0
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(part.n_bytes - share * texts.n_bytes) <= 420  # less than the longest document
        assert part.alphabet == texts.alphabet


def test_the_seed_decides_who_goes_where() -> None:
    texts = documents(50)
    first, again, other = (split_texts(texts, SplitConfig(seed=seed)).record() for seed in (0, 0, 1))
    assert first == again and first["splits"] != other["splits"]


def test_a_document_that_comes_twice_lies_in_one_split() -> None:
    texts = texts_of([*documents(40), *["the same"] * 30])
    split = split_texts(texts, SplitConfig())
    holding = [part for part in (split.train, split.validation, split.test) if "the same" in list(part)]
    assert len(holding) == 1 and holding[0] is split.test and split.duplicates_dropped > 0


@pytest.mark.parametrize("text", ["one line\n" * 500, "é" * 3000, "no end of line " * 300])
def test_a_single_document_is_cut_in_three_in_its_order(text: str) -> None:
    texts = texts_of([text])
    split = split_texts(texts, SplitConfig(train=0.8, validation=0.1, test=0.1))
    assert split.by == "position" and split.train[0] + split.validation[0] + split.test[0] == text
    assert split.train.n_bytes == pytest.approx(0.8 * texts.n_bytes, abs=20)
    if "\n" in text:
        assert split.train[0].endswith("\n") and split.validation[0].endswith("\n")


@pytest.mark.parametrize("text", ["a", "ab", "only one line, and what is left is nothing\n"])
def test_too_little_text_is_refused(text: str) -> None:
    with pytest.raises(SimulacraError, match=r"leave nothing for the .* split; add text"):
        split_texts(texts_of([text]), SplitConfig())


CONTENT = SplitConfig(by="content")


def test_dealt_by_content_a_document_stays_where_it_is_when_others_come() -> None:
    everything = documents(300)
    before = split_texts(everything.take(range(200)), CONTENT)
    after = split_texts(everything.take(np.random.default_rng(0).permutation(300)), CONTENT)
    for name in ("train", "validation", "test"):
        old, new = list(getattr(before, name)), list(getattr(after, name))
        assert set(old) <= set(new)
        # Their order stays too, so that the first bytes of test text are mostly the same ones.
        assert [text for text in new if text in set(old)] == old
    assert before.by == before.record()["by"] == "content" and after.duplicates_dropped == 0


def test_dealt_by_order_documents_move() -> None:
    """Which is why a champion asks for another split."""
    everything = documents(300)
    before, after = split_texts(everything.take(range(200)), SplitConfig()), split_texts(everything, SplitConfig())
    assert set(before.train) & set(after.test)


def test_dealt_by_content_shares_of_documents_are_met_on_average_and_the_seed_decides() -> None:
    texts = documents(3000)
    split = split_texts(texts, CONTENT)
    counts = np.array([len(split.train), len(split.validation), len(split.test)])
    # Three thousand draws: the standard deviation of each share is below 0.009.
    assert counts.sum() == 3000
    np.testing.assert_allclose(counts / 3000, CONTENT.shares, atol=0.03)
    assert set(split_texts(texts, CONTENT.model_copy(update={"seed": 1})).test) != set(split.test)


def test_dealt_by_content_doubles_lie_in_one_part() -> None:
    split = split_texts(texts_of([*documents(40), *["the same"] * 30]), CONTENT)
    holding = [part for part in (split.train, split.validation, split.test) if "the same" in list(part)]
    assert len(holding) == 1 and list(holding[0]).count("the same") == 30


@pytest.mark.parametrize("n", [1, 9])
def test_documents_that_would_be_cut_are_not_dealt_by_content(n: int) -> None:
    with pytest.raises(SimulacraError, match=rf"{n} documents are too few to be dealt by content.*source\.separator"):
        split_texts(documents(n), CONTENT)

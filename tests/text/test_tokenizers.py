import pytest

from simulacra.errors import SimulacraError
from simulacra.text import tokenizers
from simulacra.text.tokenizers import END, Kind, Tokenizer, build

TEXTS = [
    "naïve café, größer\n\n",
    "日本語のテキスト 🎲🎲 مرحبا\ttab\r",
    "a  b   c\n \n",
    "e\u0301 \u00a0 \u2028 x",
    "to be or not to be " * 20,
]
KINDS: list[Kind] = ["character", "byte", "bpe"]


def tokenizer(kind: Kind, size: int = 300) -> Tokenizer:
    return build(kind, alphabet="".join(sorted(set("".join(TEXTS)))), texts=TEXTS, size=size)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_come_back_as_they_were(kind: Kind) -> None:
    made = tokenizer(kind)
    for each in (made, Tokenizer.from_json(made.to_json())):
        for text in [*TEXTS, "", " ", "\n"]:
            ids = each.encode(text)
            assert each.decode(ids) == text and (ids != each.end).all()
            assert 0 <= ids.min(initial=0) <= ids.max(initial=0) < each.size


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_has_the_tokens_that_it_has_in_one_part(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    text, made = "  ".join(TEXTS) + "".join(TEXTS), tokenizer(kind)
    whole = made.encode(text)
    for size in (1, 2, 7, 30):
        monkeypatch.setattr(tokenizers, "CUT", size)
        assert len(tokenizers._cut(text)) > 20 // size
        assert made.encode(text).tolist() == whole.tolist()


def test_sizes_are_what_was_asked_for() -> None:
    assert tokenizer("character").size == len(set("".join(TEXTS))) + 1
    assert tokenizer("byte").size == 257
    assert tokenizer("bpe", size=280).size == 280


def test_a_byte_is_a_token_and_pairs_make_texts_shorter() -> None:
    text = TEXTS[1]
    assert len(tokenizer("byte").encode(text)) == len(text.encode())
    assert len(tokenizer("character").encode(text)) == len(text)
    assert len(tokenizer("bpe").encode(TEXTS[4])) < len(TEXTS[4]) / 2


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_what_was_never_seen_has_tokens_too(kind: Kind) -> None:
    made = build(kind, alphabet="ab", texts=["ab ab"], size=260)
    assert made.decode(made.encode("Ω 🎲\x00")) == "Ω 🎲\x00"


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_cannot_say_the_end(kind: Kind) -> None:
    made = build(kind, alphabet="".join(sorted(set(END))), texts=[], size=300)
    assert made.end not in made.encode(END) and made.decode(made.encode(END)) == END
    assert made.decode([made.end, *made.encode("end"), made.end]) == "end"


def test_a_character_that_is_unknown_is_named() -> None:
    with pytest.raises(SimulacraError, match=r"does not know the character 'ü' \(U\+00FC, number 1 of the text\)"):
        build("character", alphabet="abc", texts=[], size=0).encode("aüb")


def test_a_half_character_is_shown_as_such() -> None:
    made = tokenizer("byte")
    assert made.decode(made.encode("é")[:1]) == "\ufffd"


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert tokenizer("bpe").to_json() == tokenizer("bpe").to_json()


def test_fewer_tokens_than_bytes_are_refused() -> None:
    with pytest.raises(SimulacraError, match="a bpe needs 257 tokens at least, got tokenizer_size 256"):
        tokenizer("bpe", size=256)

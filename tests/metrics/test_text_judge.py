import math

import pytest

from simulacra.data.text_set import texts_of
from simulacra.errors import SimulacraError
from simulacra.metrics.perplexity import Perplexity
from simulacra.metrics.text_judge import TextJudge, first_bytes

TRAIN = texts_of(["the quick brown fox jumps over the lazy dog again and again"])
HELD_OUT = texts_of(
    ["a slow green turtle looks at the small sleepy cat for hours", "and then they both go home to rest"]
)


class Guessing:
    """A family that gives every byte one bit."""

    name = "guessing"

    def perplexity(self, texts, *, stride=None, context=None) -> Perplexity:
        size = sum(len(text.encode()) for text in texts)
        return Perplexity(size * math.log(2), size, size, size, 8, stride or 4)


def judge(**options: int) -> TextJudge:
    return TextJudge(TRAIN, HELD_OUT, HELD_OUT, **{"stride": 0, "limit": 0} | options)


def test_a_family_is_measured_by_likelihood_and_texts() -> None:
    copy, own = list(TRAIN), ["one two three four five six seven eight nine ten"]
    record = judge(stride=3).family(Guessing(), [copy, own], [5, 6], ema=True)
    metrics = {key: value["per_seed"] for key, value in record["metrics"].items()}
    assert metrics["bits_per_byte"] == pytest.approx([1, 1]) and metrics["perplexity"] == pytest.approx([2, 2])
    assert metrics["copied_8"] == [1, 0] and metrics["distinct_2"] == [1, 1] and metrics["repetition_4"] == [0, 0]
    assert record["passport"]["likelihood"]["stride"] == 3 and record["row"] == "guessing"


def test_the_floor_is_held_out_text_of_the_same_amount() -> None:
    record = judge().floor(words=10, n=4, seeds=[0, 1])
    assert record["role"] == "floor" and record["metrics"]["copied_8"]["value"] == 0
    assert record["passport_id"] == judge().family(Guessing(), [list(HELD_OUT)] * 2, [2, 3], ema=None)["passport_id"]
    with pytest.raises(SimulacraError, match="the validation split has 20 words, fewer than the 50"):
        judge().floor(words=50, n=4, seeds=[0])


def test_noise_gives_every_byte_eight_bits() -> None:
    accents = texts_of(["é" * 30 + "ab"])
    record = TextJudge(TRAIN, HELD_OUT, accents, stride=0, limit=0).noise([0, 1])
    metrics = {key: value["value"] for key, value in record["metrics"].items()}
    assert metrics == {"bits_per_byte": 8, "perplexity": 256, "bits_per_character": 8 * 62 / 32}
    assert (
        record["role"] == "noise"
        and judge().noise([0, 1])["passport_id"] == judge().floor(10, 4, [4, 5])["passport_id"]
    )


def test_what_short_texts_cannot_tell_is_left_out() -> None:
    record = judge().family(Guessing(), [["a b c"], ["a b c d e"]], [0, 1], ema=None)
    assert {"repetition_4", "copied_8"}.isdisjoint(record["metrics"]) and "distinct_2" in record["metrics"]


@pytest.mark.parametrize(
    ("limit", "wanted"), [(3, ["aé"]), (2, ["a"]), (4, ["aéb"]), (6, ["aéb", "cd"]), (99, ["aéb", "cdé"])]
)
def test_a_limit_cuts_between_characters(limit: int, wanted: list[str]) -> None:
    assert list(first_bytes(texts_of(["aéb", "cdé"]), limit)) == wanted

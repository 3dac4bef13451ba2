import pytest

from simulacra.errors import SimulacraError
from simulacra.metrics.texts import copied, distinct, repetition


def test_distinct_counts_different_runs_of_words_among_all() -> None:
    texts = ["to be or not to be", "to be"]
    assert distinct(texts, 1) == 4 / 8  # to, be, or, not
    assert distinct(texts, 2) == 4 / 6  # to be (three times), be or, or not, not to
    assert distinct(["a b c d"], 2) == 1


def test_repetition_is_within_a_text_not_between_texts() -> None:
    assert repetition(["a b c d e f", "a b c d e f"], 4) == 0
    assert repetition(["x x x x x x x"], 4) == pytest.approx(3 / 4)
    assert repetition(["x x x x x x x", "a b c d e f g", "short"], 4) == pytest.approx(3 / 8)


def test_copied_is_the_share_that_stands_in_the_training_texts() -> None:
    training = ["one two three four five", "six seven eight nine"]
    assert copied(["zero one two three ten"], training, n=3) == pytest.approx(1 / 3)
    assert copied(["four five six"], training, n=3) == 0, "no run goes on from one text into the next"
    assert copied(training, training, n=3) == 1
    assert copied(["one  two\nthree"], iter(training), n=3) == 1, "blanks are alike, and one pass is enough"


@pytest.mark.parametrize(
    "measure", [lambda: distinct(["a"], 2), lambda: repetition(["a b c"]), lambda: copied(["a"], [])]
)
def test_too_short_texts_are_no_numbers(measure) -> None:
    with pytest.raises(SimulacraError, match="generate longer texts"):
        measure()

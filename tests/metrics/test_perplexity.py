import math

import numpy as np
import pytest
from numpy.typing import NDArray

from simulacra.errors import SimulacraError
from simulacra.metrics.perplexity import perplexity, token_nats, windows


def bigram(ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """A model that looks one token back: the next one follows with probability 1/2, others share the rest."""
    right = ids[:, 1:] == (ids[:, :-1] + 1) % 5
    return np.log(np.where(right, 0.5, 0.125))


def counting(ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """A model whose nats are how many tokens it looked back on."""
    return np.broadcast_to(-np.arange(1.0, ids.shape[1]), (len(ids), ids.shape[1] - 1))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 16, 50, 99])
@pytest.mark.parametrize(("context", "stride"), [(2, 1), (8, 7), (8, 4), (8, 1), (5, 3), (200, 100)])
def test_every_token_but_the_first_is_scored_once(n: int, context: int, stride: int) -> None:
    found = list(windows(n, context=context, stride=stride))
    scored = [place for window in found for place in range(window.scored, window.end)]
    assert scored == list(range(1, n))
    assert all(window.start < window.scored < window.end <= n for window in found)
    assert all(window.end - window.start <= context for window in found)
    assert all(window.scored - window.start >= min(window.scored, context - stride) for window in found)


@pytest.mark.parametrize(("context", "stride"), [(2, 1), (8, 7), (8, 4), (5, 3), (64, 32)])
def test_of_a_model_that_looks_one_token_back_no_window_matters(context: int, stride: int) -> None:
    ids = np.random.default_rng(0).integers(5, size=203)
    nats = token_nats(bigram, ids, context=context, stride=stride)
    np.testing.assert_array_equal(nats, -bigram(ids[None])[0])


def test_context_is_what_the_stride_leaves() -> None:
    nats = token_nats(counting, np.zeros(20, np.int64), context=8, stride=4)
    assert nats.tolist() == [1, 2, 3, 4, 5, 6, 7, *[4, 5, 6, 7] * 3]


def test_perplexity_of_an_even_guess_is_the_vocabulary() -> None:
    ids = np.arange(40) % 7
    found = perplexity(
        lambda rows: np.full((len(rows), rows.shape[1] - 1), -math.log(7)),
        ids,
        "é" * 80,
        first="éé",
        context=10,
        stride=5,
    )
    assert found.per_token == pytest.approx(7)
    assert found.bits_per_character == pytest.approx(39 * math.log2(7) / 78)
    assert found.bits_per_byte == pytest.approx(found.bits_per_character / 2)
    assert found.describe() == {"context": 10, "stride": 5, "tokens": 39, "bytes": 156, "characters": 78}


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(SimulacraError, match="stride must lie between 1 and context - 1, which is 7, got 8"):
        list(windows(20, context=8, stride=8))
    with pytest.raises(SimulacraError, match="a context of 1 tokens foretells nothing"):
        list(windows(20, context=1, stride=1))
    with pytest.raises(SimulacraError, match="a text of one token has no perplexity"):
        perplexity(bigram, np.zeros(1, np.int64), "a", first="a", context=4, stride=2)
    with pytest.raises(SimulacraError, match="of 9 of 9 tokens are not finite"):
        token_nats(lambda ids: bigram(ids) * np.nan, np.zeros(10, np.int64), context=4, stride=2)

import numpy as np
import pytest

from simulacra.data.token_set import FileTokens, TokenSet
from simulacra.errors import SimulacraError

PARTS = [np.array([3, 70_000]), np.array([], np.int64), np.array([1, 2, 0])]


@pytest.mark.parametrize(("size", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_a_file_holds_what_memory_would(size: int, width: int) -> None:
    whole = np.concatenate(PARTS) % size
    held = FileTokens([part % size for part in PARTS], size)
    assert len(held) == 5 and held.dtype.itemsize == width
    for part in (slice(None), slice(1, 3), slice(3, 99), slice(2, 2), slice(-2, None)):
        assert held[part].tolist() == whole[part].tolist()
    one, other = (TokenSet(ids, 2) for ids in (held, whole.astype(held.dtype)))
    assert one.fingerprint() == other.fingerprint() and len(one) == len(other) == 2
    starts = np.array([2, 0, 1])
    assert one.windows(starts).tolist() == other.windows(starts).tolist()


def test_tokens_that_make_no_window_are_refused() -> None:
    with pytest.raises(SimulacraError, match="4 tokens are too few for a context of 4"):
        TokenSet(np.zeros(4, np.uint16), 4)

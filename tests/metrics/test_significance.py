import pytest

from simulacra.metrics.significance import holm


def test_holm_s_method_on_four_hypotheses() -> None:
    """Times 4, 3, 2 and 1 from the smallest upwards, never falling, at most 1."""
    found = holm({"a": 0.4, "b": 0.01, "c": 0.02, "d": 0.9})
    assert found == pytest.approx({"b": 0.04, "c": 0.06, "a": 0.8, "d": 0.9})

import numpy as np
import pytest

from simulacra.metrics.prompts import prompt_fidelity, share

WORDS = {"thin": ("thickness", 1, 1), "medium": ("thickness", 1, 2), "thick": ("thickness", 1, 3)}


def test_a_share_has_wilsons_interval() -> None:
    hits = np.arange(50) < 40
    p, n, z = 0.8, 50, 1.959964
    middle, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * (p * 0.2 / n + z**2 / (4 * n**2)) ** 0.5
    found = share(hits)
    assert found["value"] == 0.8 and found["n"] == 50
    assert found["interval"] == pytest.approx([middle - half, middle + half], abs=1e-6)


def test_a_share_of_nothing_has_no_value() -> None:
    assert share(np.zeros(0, bool)) == {"value": None, "interval": None, "n": 0}


def test_words_are_counted_where_they_are_said() -> None:
    said = np.array([[0, 1], [0, 1], [0, 3], [0, 0]])
    measured = np.array([[2, 1], [1, 2], [3, 3], [1, 1]])
    found = prompt_fidelity(
        asked=np.array([0, 1, 2, 2]), seen=np.array([0, 1, 2, 0]), words=WORDS, said=said, measured=measured
    )
    assert found["classes"]["value"] == 0.75 and found["classes"]["n"] == 4
    assert found["attributes"]["value"] == pytest.approx(2 / 3) and found["attributes"]["n"] == 3
    assert found["words"]["thin"]["value"] == 0.5 and found["words"]["thick"]["value"] == 1
    assert found["words"]["medium"]["n"] == 0
    assert found["spearman"] == {"thickness": pytest.approx(3**0.5 / 2)}


def test_images_that_heed_nothing_score_a_third() -> None:
    rng = np.random.default_rng(0)
    said, measured = (rng.integers(1, 4, (6000, 2)) for _ in range(2))
    classes = np.zeros(6000, np.int64)
    found = prompt_fidelity(asked=classes, seen=classes, words=WORDS, said=said, measured=measured)
    low, high = found["attributes"]["interval"]
    assert low < 1 / 3 < high and found["spearman"]["thickness"] == pytest.approx(0, abs=0.05)

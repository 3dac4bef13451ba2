import numpy as np
import pytest

from simulacra.errors import SimulacraError
from simulacra.metrics.memorisation import authenticity, memorised_share, nearest


def draw(n: int, seed: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def by_enumeration(train: np.ndarray, generated: np.ndarray) -> float:
    """Alaa et al. (2022), section 3.3, sample by sample."""
    authentic = 0
    for sample in generated.astype(np.float64):
        distances = np.linalg.norm(train - sample, axis=1)
        near = int(distances.argmin())
        own = np.delete(np.linalg.norm(train.astype(np.float64) - train[near], axis=1), near).min()
        authentic += distances[near] >= own
    return authentic / len(generated)


def test_nearest_rows():
    found = nearest([[0.0, 1.0], [9.0, 9.0]], [[0.0, 0.0], [9.0, 9.0], [5.0, 5.0]])
    np.testing.assert_allclose(found.distances, [1, 0], atol=1e-7)
    assert found.rows.tolist() == [0, 1]


def test_authenticity_agrees_with_enumeration():
    train, generated = draw(60, 0), draw(40, 1)
    found = authenticity(train, generated)
    assert 0.2 < found < 0.8
    assert found == pytest.approx(by_enumeration(train, generated), rel=1e-12)


def test_copies_are_not_authentic_and_far_samples_are():
    train = draw(60, 2)
    assert authenticity(train, train[:20]) == 0
    assert authenticity(train, train[:20] + 1e-3) == 0
    assert authenticity(train, train[:20] + 100) == 1


def test_memorised_share_is_one_for_copies_and_the_floor_for_new_data():
    train, held_out, new = draw(2000, 3), draw(1000, 4), draw(4000, 5)
    assert memorised_share(train, held_out, train[::3] + 1e-4) == 1
    assert memorised_share(train, held_out, held_out, floor=0.1) == pytest.approx(0.1, abs=1e-12)
    # 1 % of 4,000 have a deviation of 0.16 %, the limit, of 10 of 1,000, one of 0.31 %.
    assert memorised_share(train, held_out, new) == pytest.approx(0.01, abs=4 * 0.0035)


def test_half_copies_are_half():
    train, held_out = draw(500, 6), draw(500, 7)
    mixed = np.concatenate([train[:100], draw(100, 8) + 5])
    assert memorised_share(train, held_out, mixed) == 0.5


def test_a_training_set_with_doubles_of_held_out_rows_still_tells_copies():
    train = draw(300, 9)
    held_out = np.concatenate([train[:20], draw(180, 10)])
    assert memorised_share(train, held_out, train) == 1
    assert memorised_share(train, held_out, draw(100, 11) + 3) == 0


def test_too_few_held_out_rows_are_refused():
    with pytest.raises(SimulacraError, match=r"50 held-out rows.*bring 100 rows"):
        memorised_share(draw(60, 12), draw(50, 13), draw(20, 14))
    with pytest.raises(SimulacraError, match="share of 1 "):
        memorised_share(draw(60, 12), draw(50, 13), draw(20, 14), floor=1)


def test_features_are_checked():
    with pytest.raises(SimulacraError, match="8 columns"):
        authenticity(draw(5, 0), np.zeros((5, 3)))

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from simulacra.errors import SimulacraError
from simulacra.metrics.vendi import vendi_score


def by_kernel(features: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of the whole kernel matrix over n."""
    eigenvalues = np.linalg.eigvalsh((1 - cdist(features, features, "cosine")) / len(features))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


@pytest.mark.parametrize(("n", "d"), [(40, 5), (5, 40), (30, 30)])
def test_agrees_with_the_kernel_matrix(n, d):
    features = np.random.default_rng(n).normal(0.5, 1, (n, d))
    assert vendi_score(features) == pytest.approx(by_kernel(features), rel=1e-9)


def test_orthogonal_groups_count_by_their_entropy():
    """Three directions, of 5, 3 and 2 rows, each of any length: exp of the entropy of (0.5, 0.3, 0.2)."""
    features = np.repeat(np.eye(4)[:3], (5, 3, 2), axis=0) * np.arange(1, 11)[:, np.newaxis]
    shares = np.array([0.5, 0.3, 0.2])
    assert vendi_score(features) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-12)


def test_bounds():
    assert vendi_score(np.eye(6)) == pytest.approx(6, rel=1e-12)
    assert vendi_score(np.ones((6, 3))) == pytest.approx(1, rel=1e-12)
    assert vendi_score(np.full((2, 3), 1e24)) == pytest.approx(1, rel=1e-12)


def test_rows_of_zeros_are_alike_to_each_other_only():
    assert vendi_score(np.zeros((5, 3))) == 1
    assert vendi_score(np.array([[0.0, 0], [0, 0], [1, 0], [2, 0]])) == pytest.approx(2, rel=1e-12)


def test_blocks_do_not_matter_nor_does_the_type():
    features = np.random.default_rng(1).normal(size=(2500, 6)).astype(np.float32)
    rows = np.random.default_rng(2).permutation(2500)
    assert vendi_score(features) == pytest.approx(vendi_score(features[rows].astype(np.float64)), rel=1e-10)


def test_features_are_checked():
    with pytest.raises(SimulacraError, match="features: 1 of 2 rows"):
        vendi_score([[np.nan], [1.0]])

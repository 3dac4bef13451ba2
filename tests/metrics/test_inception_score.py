import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from simulacra.errors import SimulacraError
from simulacra.metrics.inception_score import inception_score


def test_sure_of_each_and_all_classes_equally_often_scores_the_number_of_classes():
    assert inception_score(np.tile(np.eye(7), (5, 1))) == (pytest.approx(7, rel=1e-12), 0)


def test_samples_that_look_alike_score_one():
    assert inception_score(np.tile([0.5, 0.3, 0.2, 0.0], (9, 1))) == (pytest.approx(1, rel=1e-12), 0)
    assert inception_score(np.eye(4)[[2]]) == (1, 0)


def test_two_rows_by_hand():
    """Rows (1, 0) and (½, ½) have mean (¾, ¼): E KL = (ln 4/3 + ½ ln 2/3 + ½ ln 2) / 2."""
    expected = np.exp((np.log(4 / 3) + np.log(2 / 3) / 2 + np.log(2) / 2) / 2)
    assert inception_score(np.array([[1.0, 0.0], [0.5, 0.5]]))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n_splits", [1, 4])
def test_agrees_with_torch_fidelity(n_splits):
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (200, 10)))
    expected = isc_features_to_metric(logits, splits=n_splits, shuffle=False)
    found = inception_score(logits.softmax(dim=1).numpy(), n_splits=n_splits)
    assert found == pytest.approx((expected[KEY_METRIC_ISC_MEAN], expected[KEY_METRIC_ISC_STD]), rel=1e-10)


def test_rounding_of_half_precision_is_scaled_away():
    rounded = np.random.default_rng(1).dirichlet(np.ones(10), size=50).astype(np.float16)
    exact = rounded.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert inception_score(rounded) == pytest.approx(inception_score(exact), rel=1e-12)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.array([[0.5, 0.5], [0.9, 0.2], [2.0, 3.0]]), "probabilities: 2 of 3 rows"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), "probabilities: 1 of 2 rows"),
        (np.array([[np.nan, 0.5], [0.5, 0.5]]), "probabilities: 1 of 2 rows hold NaN"),
        (np.ones((0, 3)), "probabilities have 0 rows"),
        (np.ones(3) / 3, r"got float64 of shape \(3,\)"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, message):
    with pytest.raises(SimulacraError, match=message):
        inception_score(probabilities)


@pytest.mark.parametrize("n_splits", [0, 4])
def test_splits_must_hold_a_row(n_splits):
    with pytest.raises(SimulacraError, match=f"n_splits is {n_splits}; choose between 1 and the number of rows, 3"):
        inception_score(np.eye(3), n_splits=n_splits)

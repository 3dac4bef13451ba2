"""Tests of drift: levels by simulation, shifts that are found, statistics against numbers worked out by hand."""

import json

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simulacra.data.fabricate import fabricate_images
from simulacra.errors import SimulacraError
from simulacra.retraining.drift import (
    FOLDS,
    _hits,
    classifier_test,
    columns,
    image_statistics,
    look_for_drift,
    sequential_p_value,
    statistic_tests,
    text_statistics,
)


@pytest.mark.parametrize("times", [160, pytest.param(1600, marks=pytest.mark.slow)])
def test_classifier_test_holds_its_level_on_equal_distributions(times):
    """Two sides of 20 rows, many times; 19 relabellings of which none may do as well reject at exactly 1 in 20."""
    rng, rejected = np.random.default_rng(0), 0
    for seed in range(times):
        before, after = rng.exponential(size=(2, 20, 3))
        rejected += classifier_test(before, after, permutations=19, exceedances=1, seed=seed).p <= 0.05
    # No more than 2.5 standard errors above; ties make it smaller, not larger.
    assert 0.02 <= rejected / times <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / times)


def test_a_sequential_p_value_is_below_a_level_no_more_often_than_that():
    rng = np.random.default_rng(1)
    found = np.array([sequential_p_value(rng.random(), rng.random, 99, 5) for _ in range(4000)])
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        assert (found <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 4000)
    assert (found <= 0.05).mean() >= 0.035, "nor much less often"


def test_classifier_test_finds_a_shift_that_no_single_column_shows():
    rng = np.random.default_rng(2)
    shared, own = rng.normal(size=(2, 200, 1)), rng.normal(size=(2, 200, 2))
    one, other = shared + 0.1 * own + np.array([[[0.0, 0.0]], [[0.1, -0.1]]])  # apart only across the diagonal
    assert all(ks_2samp(a, b).pvalue > 0.05 for a, b in zip(one.T, other.T, strict=True))
    found = classifier_test(one, other, permutations=199, seed=3)
    assert found.p < 0.01 and found.accuracy > 0.6 and found.n == 200


def test_hits_are_those_of_a_cross_validated_pipeline():
    """The same by scikit-learn's own cross-validation, which scales and fits on the other parts only."""
    pool = np.concatenate(
        [np.random.default_rng(4).normal(size=(30, 4)) * 5 + 3, np.random.default_rng(5).normal(size=(30, 4))]
    )
    sides = np.repeat([0, 1], 30)
    split = PredefinedSplit(np.tile(np.arange(30) % FOLDS, 2))
    told = cross_val_predict(make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8)), pool, sides, cv=split)
    assert _hits(pool) == (told == sides).sum()


def test_both_sides_have_equally_many_rows_and_no_more_than_asked():
    rng = np.random.default_rng(6)
    assert classifier_test(rng.normal(size=(25, 2)), rng.normal(size=(90, 2)), permutations=1).n == 25
    assert classifier_test(rng.normal(size=(80, 2)), rng.normal(size=(90, 2)), rows=40, permutations=1).n == 40


def test_the_same_seed_gives_the_same_answer():
    one, other = np.random.default_rng(7).normal(size=(2, 40, 3))
    assert classifier_test(one, other, permutations=30, seed=8) == classifier_test(one, other, permutations=30, seed=8)


def test_statistic_tests_are_kolmogorov_smirnov_s_corrected_by_holm():
    rng = np.random.default_rng(9)
    before = {"a": rng.normal(size=50), "b": rng.normal(size=50)}
    after = {"a": rng.normal(size=60) + 0.7, "b": rng.normal(size=60)}
    found = statistic_tests(before, after)
    raw = {name: ks_2samp(before[name], after[name]) for name in before}
    assert found["a"].distance == pytest.approx(raw["a"].statistic)
    assert found["a"].p == pytest.approx(2 * raw["a"].pvalue)
    assert found["b"].p == pytest.approx(max(2 * raw["a"].pvalue, raw["b"].pvalue))
    assert (found["a"].moved, found["b"].moved) == (True, False)


def test_statistics_of_equal_distributions_seldom_move():
    rng, wrong = np.random.default_rng(10), 0
    for _ in range(400):
        before, after = ({f"s{place}": rng.normal(size=40) for place in range(6)} for _ in range(2))
        wrong += any(test.moved for test in statistic_tests(before, after).values())
    assert wrong / 400 <= 0.08


def test_brighter_and_moved_pictures_are_named():
    data = fabricate_images(n=240, size=12, channels=1, n_classes=3, seed=0).images
    before, fresh = data[:120], data[120:]
    assert look_for_drift(image_statistics(before), image_statistics(fresh)).p > 0.01
    paler = look_for_drift(image_statistics(before), image_statistics(fresh // 2))
    assert paler.p < 0.01 and {"mean intensity", "contrast", "edge energy"} <= set(paler.moved)
    assert json.loads(json.dumps(paler.record(), allow_nan=False))["moved"] == paler.moved
    shifted = statistic_tests(image_statistics(before), image_statistics(np.roll(fresh, 2, axis=3)))
    moved = {name for name, test in shifted.items() if test.moved}
    assert shifted["horizontal centre of mass"].p < 0.005 and "horizontal centre of mass" in moved
    assert not moved & {"vertical centre of mass", "mean intensity"}


def test_image_statistics_by_hand():
    """A 2×2 square of 200 in the lower left quarter of a black 4×4 image, and a blank image."""
    images = np.zeros((2, 1, 4, 4), np.uint8)
    images[0, 0, 2:, :2] = 200
    found = image_statistics(images)
    assert found["mean intensity"].tolist() == [50, 0]
    assert found["contrast"] == pytest.approx([200 * np.sqrt(0.25 * 0.75), 0])
    assert found["ink share"].tolist() == [0.25, 0]
    assert found["horizontal centre of mass"] == pytest.approx([1 / 6, 0.5])
    assert found["vertical centre of mass"] == pytest.approx([5 / 6, 0.5])
    # Of 24 pairs of neighbours, two rows of edges with two pairs each jump by 200.
    assert found["edge energy"] == pytest.approx([200 * np.sqrt(4 / 24), 0])


def test_dark_ink_on_white_is_ink_too():
    images = np.zeros((1, 3, 6, 6), np.uint8)
    images[0, :, 2:4, 2] = 180
    one, other = image_statistics(images), image_statistics(255 - images)
    for name in ("ink share", "horizontal centre of mass", "contrast", "edge energy"):
        assert other[name] == pytest.approx(one[name]), name


def test_image_statistics_do_not_depend_on_how_many_are_measured_at_once():
    images = np.random.default_rng(11).integers(0, 256, (1500, 1, 4, 4), np.uint8)
    whole, last = image_statistics(images), image_statistics(images[-1:])
    assert columns(whole).shape == (1500, 6)
    assert columns(whole)[-1] == pytest.approx(columns(last)[0])


def test_text_statistics_by_hand():
    found = text_statistics(["Ab 1, é", ""])
    assert {name: values[0] for name, values in found.items()} == pytest.approx(
        {
            "length": 7,
            "letters": 3 / 7,
            "capitals": 1 / 7,
            "digits": 1 / 7,
            "blanks": 2 / 7,
            "other characters": 1 / 7,
            "mean word length": 5 / 3,
        }
    )
    assert [values[1] for values in found.values()] == [0] * 7


def test_shouting_is_named():
    rng = np.random.default_rng(12)
    words = ["some", "words", "of", "a", "text", "and", "more"]
    texts = [" ".join(rng.choice(words, rng.integers(5, 20))) for _ in range(120)]
    found = look_for_drift(text_statistics(texts[:60]), text_statistics([text.upper() for text in texts[60:]]))
    assert found.moved == ["capitals"] and found.p < 0.01


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (np.zeros((9, 2)), np.zeros((20, 2)), "features of what the model was fitted to have 9 rows"),
        (np.zeros((20, 2)), np.zeros((20, 3)), "has 2 features a row, fresh data 3"),
        (np.zeros((20, 2)), np.full((20, 2), np.nan), "features of fresh data"),
    ],
)
def test_what_cannot_be_tested_is_refused(before, after, message):
    with pytest.raises(SimulacraError, match=message):
        classifier_test(before, after)


def test_unequal_statistics_and_wrong_images_are_refused():
    values = np.arange(20.0)
    with pytest.raises(SimulacraError, match="of one side only: a, b"):
        statistic_tests({"a": values}, {"b": values})
    with pytest.raises(SimulacraError, match="equally many rows"):
        columns({"a": values, "b": values[1:]})
    with pytest.raises(SimulacraError, match="got float64"):
        image_statistics(np.zeros((2, 1, 4, 4)))

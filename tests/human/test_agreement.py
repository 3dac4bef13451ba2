import krippendorff
import numpy as np
import pytest

from simulacra.human.agreement import krippendorff_alpha


def test_the_example_of_krippendorff_s_paper() -> None:
    """Two observers, ten articles, two categories (Krippendorff 2011, Computing Krippendorff's Alpha, part A)."""
    jon, han = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    counts = np.array([[(a == 0) + (b == 0), (a == 1) + (b == 1)] for a, b in zip(jon, han, strict=True)])
    assert krippendorff_alpha(counts) == pytest.approx(0.095, abs=0.001)


@pytest.mark.parametrize("seed", range(5))
def test_the_reference_package_agrees_with_answers_missing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 60)
    answers = np.where(rng.random((7, 60)) < 0.3, 1 - truth, truth).astype(float)
    answers[rng.random((7, 60)) < 0.4] = np.nan
    counts = np.stack([np.nansum(answers == value, axis=0) for value in (0, 1)], axis=1)
    expected = krippendorff.alpha(reliability_data=answers, level_of_measurement="nominal")
    assert krippendorff_alpha(counts) == pytest.approx(expected, abs=1e-12)


def test_agreement_in_everything_is_one_and_systematic_disagreement_is_below_zero() -> None:
    assert krippendorff_alpha(np.array([[3, 0], [0, 3], [3, 0]])) == 1
    assert krippendorff_alpha(np.array([[1, 1], [1, 1]])) < 0


@pytest.mark.parametrize("counts", [[[1, 0], [0, 1]], [[3, 0], [2, 0]], np.zeros((0, 2), int)])
def test_where_it_is_not_defined_there_is_none(counts: list[list[int]]) -> None:
    assert krippendorff_alpha(np.array(counts)) is None

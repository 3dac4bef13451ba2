from collections import Counter

import numpy as np
import pytest

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.human.config import StudyConfig
from simulacra.human.study import NOISE, REAL, Study, design, round_robin, turned

NAMES = ("flow", "gan", "gmm", "vae", "naive_bayes")


def images(seed: int, n: int = 120) -> ImageSet:
    return ImageSet(np.random.default_rng(seed).integers(0, 256, (n, 1, 5, 5), dtype=np.uint8))


MADE = {name: images(seed) for seed, name in enumerate(NAMES, 1)}


def study(seed: int = 0, n_families: int = 5, **settings: object) -> Study:
    return design(images(0), dict(list(MADE.items())[:n_families]), StudyConfig(**settings), seed=seed)


def test_half_are_real_and_families_share_the_rest_evenly() -> None:
    trials = study(modes="real_or_fake", trials=100, checks=0.1).trials
    shown = Counter(trial.shown[0].source for trial in trials)
    assert shown[REAL] == 45 and shown[NOISE] == 10
    assert {shown[name] for name in NAMES} == {9}
    assert {trial.expected for trial in trials if trial.shown[0].source == NOISE} == {"generated"}
    assert {trial.expected for trial in trials if trial.shown[0].source != NOISE} == {""}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n_families", "trials"), [(2, 21), (3, 40), (4, 50), (5, 33), (5, 60)])
def test_pairs_meet_equally_often_and_sides_are_balanced(seed: int, n_families: int, trials: int) -> None:
    asked = [
        trial for trial in study(seed, n_families, modes="preference", trials=trials, checks=0.1).trials
        if not trial.expected
    ]  # fmt: skip
    pairs = [tuple(shown.source for shown in trial.shown) for trial in asked]
    together = Counter(frozenset(pair) for pair in pairs)
    assert len(together) == min(len(pairs), n_families * (n_families - 1) // 2)
    assert max(together.values()) - min(together.values()) <= 1
    sides = Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)
    assert all(abs(sides[0][name] - sides[1][name]) <= 1 for name in MADE)
    ways = Counter(pairs)
    assert all(abs(n - ways[pair[::-1]]) <= 1 for pair, n in ways.items())
    often = [sides[0][name] + sides[1][name] for name in list(MADE)[:n_families]]
    assert max(often) - min(often) <= 1


def test_checks_show_noise_beside_a_real_image_on_either_side() -> None:
    checks = [trial for trial in study(modes="preference", trials=40, checks=0.2).trials if trial.expected]
    assert len(checks) == 8
    for trial in checks:
        side = [shown.source for shown in trial.shown].index(REAL)
        assert trial.expected == ("left", "right")[side]
    assert Counter(trial.expected for trial in checks) == {"left": 4, "right": 4}


def test_same_seed_same_study_whatever_the_order_of_families_and_another_seed_another() -> None:
    again = design(images(0), dict(reversed(MADE.items())), StudyConfig(), seed=0)
    assert again.key() == study(0).key() and again.id == study(0).id
    other = study(1)
    assert other.id != again.id and not {trial.id for trial in other.trials} & {trial.id for trial in again.trials}


def test_no_image_is_shown_twice_and_ids_differ() -> None:
    whole = study(trials=200)
    shown = [shown for trial in whole.trials for shown in trial.shown]
    assert len(set(shown)) == len(shown) and len({trial.id for trial in whole.trials}) == 200
    assert [trial.mode for trial in whole.trials] == ["real_or_fake"] * 100 + ["preference"] * 100


def test_the_order_tells_nothing_of_what_is_shown() -> None:
    """Places of real images among the questions are those of any shuffle: their mean is in the middle."""
    places = [
        np.mean([place for place, trial in enumerate(study(seed, modes="real_or_fake").trials)
                 if trial.shown[0].source == REAL])
        for seed in range(60)
    ]  # fmt: skip
    # One mean of 45 of 100 places has a standard deviation of about 3.2.
    assert abs(np.mean(places) - 49.5) < 4 * 3.2 / np.sqrt(60)


def test_one_family_has_nobody_to_be_compared_with() -> None:
    alone = design(images(0), {"gan": MADE["gan"]}, StudyConfig(), seed=0)
    assert {trial.mode for trial in alone.trials} == {"real_or_fake"} and len(alone.trials) == 100
    with pytest.raises(SimulacraError, match="a preference is between two families"):
        design(images(0), {"gan": MADE["gan"]}, StudyConfig(modes="preference"), seed=0)


def test_too_few_images_are_named() -> None:
    with pytest.raises(SimulacraError, match=r"more test images than there are: lower human_study\.trials"):
        design(images(0, 10), MADE, StudyConfig(), seed=0)
    with pytest.raises(SimulacraError, match="more samples of gan than there are"):
        design(images(0), {"gan": images(1, 5)}, StudyConfig(), seed=0)


@pytest.mark.parametrize("n", range(2, 9))
def test_round_robin_meets_everybody_once_and_any_beginning_is_balanced(n: int) -> None:
    members = [str(member) for member in range(n)]
    pairs = round_robin(members)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == n * (n - 1) // 2
    for end in range(1, len(pairs) + 1):
        often = Counter(member for pair in pairs[:end] for member in pair)
        assert max(often.values()) - min(often[member] for member in members) <= 1 + (n % 2)


def test_turning_keeps_the_pairs() -> None:
    pairs = [("a", "b"), ("b", "a"), ("a", "b"), ("c", "a"), ("b", "c")]
    assert Counter(map(frozenset, turned(pairs))) == Counter(map(frozenset, pairs))

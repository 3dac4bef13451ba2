from collections.abc import Mapping

import pytest

from simulacra.sentinels.rules import RULES, Sentinel


def raised(points: list[Mapping[str, float]], *, split: str = "train", grace: int = 0) -> list[tuple[str, int]]:
    sentinel = Sentinel(grace=grace)
    for number, values in enumerate(points, start=1):
        sentinel(10 * number, split, values)
    return [(flag.name, flag.step) for flag in sentinel.flags]


def test_a_flag_is_raised_once_where_its_patience_is_used_up() -> None:
    assert raised([{"near_duplicates": 0.9}] * 5, split="samples") == [("mode_collapse", 20)]


def test_points_in_between_that_are_well_start_the_count_again() -> None:
    bad, good = {"relative_kinds": 0.1}, {"relative_kinds": 0.9}
    assert raised([bad, good, bad, good], split="samples") == []
    assert raised([bad, good, bad, bad], split="samples") == [("missing_kinds", 40)]


def test_points_that_say_nothing_of_it_do_not_interrupt_the_count() -> None:
    bad, other = {"near_duplicates": 0.9}, {"loss": 1.0}
    assert raised([bad, other, bad], split="samples") == [("mode_collapse", 30)]


def test_the_beginning_is_not_judged_by_samples() -> None:
    assert raised([{"near_duplicates": 1.0}] * 3, split="samples", grace=20) == []
    assert raised([{"near_duplicates": 1.0}] * 4, split="samples", grace=20) == [("mode_collapse", 40)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"discriminator_win_rate": 1.0, "win_rate": 1.0}, "discriminator_wins"),
        ({"generator_gradient_norm": 1e-9, "discriminator_gradient_norm": 1.0}, "gradients_vanish"),
        ({"gradient_norm": 1e6}, "gradients_explode"),
        ({"gradient_norm": float("nan")}, "gradients_explode"),
    ],
)
def test_curves_raise_the_flag_of_their_symptom(values: Mapping[str, float], name: str) -> None:
    assert raised([values] * RULES[name].patience) == [(name, 10 * RULES[name].patience)]
    assert raised([values] * (RULES[name].patience - 1)) == []


def test_a_healthy_training_raises_none() -> None:
    healthy = {"loss": 1.0, "gradient_norm": 0.3, "win_rate": 0.8}
    assert raised([healthy] * 100) == []
    assert (
        raised([{"near_duplicates": 0.2, "relative_coverage": 0.7, "relative_kinds": 0.95}] * 9, split="samples") == []
    )

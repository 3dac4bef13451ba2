import re
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


def test_the_beginning_is_not_judged_by_the_win_rate_but_by_gradients() -> None:
    assert raised([{"discriminator_win_rate": 1.0}] * 30, grace=200) == []
    assert raised([{"discriminator_win_rate": 1.0}] * 30, grace=100) == [("discriminator_wins", 300)]
    assert raised([{"gradient_norm": 1e6}] * 10, grace=100) == [("gradients_explode", 100)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"discriminator_win_rate": 1.0}, "discriminator_wins"),
        ({"generator_gradient_norm": 1e-9, "discriminator_gradient_norm": 1.0}, "gradients_vanish"),
        ({"gradient_norm": 1e6}, "gradients_explode"),
        ({"gradient_norm": float("nan")}, "gradients_explode"),
    ],
)
def test_curves_raise_the_flag_of_their_symptom(values: Mapping[str, float], name: str) -> None:
    assert raised([values] * RULES[name].patience) == [(name, 10 * RULES[name].patience)]
    assert raised([values] * (RULES[name].patience - 1)) == []


def test_a_healthy_training_raises_none() -> None:
    healthy = {"loss": 1.0, "gradient_norm": 0.3, "discriminator_win_rate": 0.8}
    assert raised([healthy] * 100) == []
    assert (
        raised([{"near_duplicates": 0.2, "relative_coverage": 0.7, "relative_kinds": 0.95}] * 9, split="samples") == []
    )


def losses(values: list[float], *, grace: int) -> list[tuple[str, int]]:
    return raised([{"loss": value} for value in values], grace=grace)


def test_a_loss_that_stays_above_all_of_the_beginning_diverges() -> None:
    beginning, rise = [5.0, 3.0, 4.0], [6.0] * 10
    assert losses([*beginning, *rise], grace=30) == [("diverges", 130)]
    assert losses([*beginning, *rise[:9], 2.0, *rise[:9]], grace=30) == []
    assert losses([*beginning, *[4.9] * 30], grace=30) == []


def test_without_a_beginning_no_loss_diverges() -> None:
    assert losses([float(number) for number in range(100)], grace=5) == []


def test_every_rule_names_a_symptom_and_the_option_that_helps() -> None:
    for name, rule in RULES.items():
        assert rule.symptom and re.search(r"(model|training)\.\w+", rule.remedy), name

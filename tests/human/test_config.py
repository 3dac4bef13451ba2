import pytest
from pydantic import ValidationError

from simulacra.human.config import ColumnsConfig, ExclusionConfig, StudyConfig


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"modes": ["preference", "preference"]}, "modes names one twice"),
        ({"modes": []}, "at least 1 item"),
        ({"modes": "guess"}, "Input should be 'real_or_fake' or 'preference'"),
        ({"trials": 2}, "greater than or equal to 4"),
        ({"checks": 0.9}, "less than or equal to 0.5"),
    ],
)
def test_a_study_that_cannot_be_is_refused(block: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StudyConfig(**block)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "either said, or count and count_generated"),
        ({"said": "s", "count": "n", "count_generated": "g"}, "either said, or count and count_generated"),
        ({"count": "n"}, "either said, or count and count_generated"),
        ({"count": "n", "count_generated": "g", "rater": "r"}, "no row has a rater or a time"),
        ({"said": "s", "real": [1, 0], "generated": 0}, "'0' cannot mean both"),
        ({"said": "s", "delimiter": ";;"}, "at most 1 character"),
        ({"said": "s", "sad": "t"}, "Extra inputs"),
    ],
)
def test_columns_that_say_nothing_or_too_much_are_refused(block: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ColumnsConfig(shown="fake", **block)


def test_rules_can_be_switched_off() -> None:
    off = ExclusionConfig(failed_checks=None, median_seconds=None, answers=None)
    assert set(off.model_dump().values()) == {None}

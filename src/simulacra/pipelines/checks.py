"""What stages refuse: results of another split or of an older model beside those of today's."""

from collections.abc import Mapping
from typing import Any

from simulacra.errors import SimulacraError


def refuse_other_split(family: str, fitted_to: str, train_sha256: str) -> None:
    """Refuse a model that was fitted to other data than today's training split: it may have seen test data.

    Raises:
        SimulacraError: which names the family, and what fits it anew.
    """
    if fitted_to != train_sha256:
        raise SimulacraError(f"{family} was fitted to another split of the data; run `kedro run --pipeline train`")


def refuse_unjudgeable(
    family: str,
    model_sha256: str,
    made: str,
    generation_record: Mapping[str, Any],
    training_record: Mapping[str, Any],
    split_record: Mapping[str, Any],
) -> None:
    """Refuse to judge what was not made by the model whose training was recorded, or by one of another split.

    Args:
        family: its name.
        model_sha256: the model's fingerprint.
        made: what it generated, in a word.
        generation_record: of what it generated.
        training_record: of its fit.
        split_record: of today's split.

    Raises:
        SimulacraError: which names the family, and what makes good.
    """
    refuse_other_split(family, training_record["train_sha256"], split_record["splits"]["train"]["fingerprint"])
    if training_record["model_sha256"] != model_sha256:
        raise SimulacraError(f"the training of {family} did not come to its end; run `kedro run --pipeline train`")
    refuse_stale(generation_record, model_sha256, f"the {made} of {family} are", "--pipeline generate")


def refuse_stale(found: Mapping[str, Any] | None, model_sha256: str, what: str, remedy: str) -> None:
    """Refuse what was made by another model than the present one.

    Raises:
        SimulacraError: which says what is stale, and what makes it anew.
    """
    if found and found["model_sha256"] != model_sha256:
        raise SimulacraError(f"{what} an older model's; run `kedro run {remedy}`")

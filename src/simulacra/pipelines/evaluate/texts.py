"""Measure held-out texts, and each family of texts by the same judge."""

from typing import TYPE_CHECKING, Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import LanguageModel, TextSet
from simulacra.pipelines.checks import refuse_unjudgeable
from simulacra.pipelines.config import LanguageConfig
from simulacra.pipelines.generate.nodes import sample_seeds

if TYPE_CHECKING:
    from simulacra.metrics.text_judge import TextJudge

WORDS_A_TOKEN = 0.5
"""Words that a token of English stands for, more or less: how long the held-out texts are that are compared with."""


@skippable
def evaluate_text_baselines(
    train_texts: TextSet, validation_texts: TextSet, test_texts: TextSet, language: LanguageConfig, seed: int
) -> list[dict[str, Any]]:
    """Return two records: real texts of the validation split in the place of generated ones, and guessed bytes."""
    judge = make_text_judge(train_texts, validation_texts, test_texts, language)
    seeds = sample_seeds(seed, language.n_seeds)
    return [judge.floor(round(WORDS_A_TOKEN * language.tokens), language.n, seeds), judge.noise(seeds)]


@skippable
def evaluate_texts(
    model: LanguageModel,
    texts: list[list[str]],
    generation_record: dict[str, Any],
    training_record: dict[str, Any],
    split_record: dict[str, Any],
    train_texts: TextSet,
    validation_texts: TextSet,
    test_texts: TextSet,
    language: LanguageConfig,
) -> dict[str, Any]:
    """Return the metrics record of one family.

    Raises:
        SimulacraError: where the model was fitted to another split than today's, some of whose test documents it may
            have seen, or the texts are another model's.
    """
    sha256 = model.fingerprint()
    refuse_unjudgeable(model.name, sha256, "texts", generation_record, training_record, split_record)
    judge = make_text_judge(train_texts, validation_texts, test_texts, language)
    record = judge.family(model, texts, generation_record["seeds"], ema=training_record.get("ema"))
    return record | {"model_sha256": sha256}


def make_text_judge(
    train_texts: TextSet, validation_texts: TextSet, test_texts: TextSet, language: LanguageConfig
) -> "TextJudge":
    """Return the judge of the present parameters."""
    from simulacra.metrics.text_judge import TextJudge

    return TextJudge(train_texts, validation_texts, test_texts, stride=language.stride, limit=language.limit)

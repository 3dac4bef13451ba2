"""Look at today's texts, judge the champion by them, and draw from it."""

import logging
import time
from functools import partial
from typing import Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import Registry, TextSet
from simulacra.pipelines.config import LanguageConfig, TextFamilyConfig
from simulacra.pipelines.evaluate.texts import make_text_judge
from simulacra.pipelines.generate.nodes import sample_seeds
from simulacra.pipelines.generate.texts import asked_for, generated
from simulacra.pipelines.report.shared import with_costs
from simulacra.pipelines.retrain.nodes import as_champion, enter, look
from simulacra.retraining.config import RetrainingConfig

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def watch_texts(
    train_texts: TextSet,
    validation_texts: TextSet,
    test_texts: TextSet,
    language: LanguageConfig,
    registry: Registry,
    decided: list[Record],
    retraining: RetrainingConfig,
    experiment: Record,
    parameters: Record,
    seed: int,
) -> tuple[Record, Record]:
    """Return whether it is time to train anew, as `watch` does of images.

    Raises:
        SimulacraError: where a family is to be trained that the dataset does not have.
    """
    from simulacra.retraining.text_facts import gather_texts

    gather = partial(gather_texts, stride=language.stride or None, limit=language.limit)
    splits = {"train": train_texts, "validation": validation_texts, "test": test_texts}
    return look(gather, splits, registry, decided, retraining, experiment, parameters, seed)


def judge_champion_of_texts(
    registry: Registry,
    train_texts: TextSet,
    validation_texts: TextSet,
    test_texts: TextSet,
    language: LanguageConfig,
    seed: int,
) -> Record:
    """Return the champion's metrics record by today's data and passport; an empty one where there is no champion.

    A champion whose tokens are characters cannot tell a test text with one that it does not know: it gives the text no
    chance at all, so that any other model is better, and stands aside.

    Raises:
        SimulacraError: where today's test documents are among those that it was fitted to.
    """
    from simulacra.retraining.facts import refuse_leak
    from simulacra.retraining.text_facts import gone, n_tokens

    champion = registry.champion()
    if champion is None:
        return {}
    record = registry.record(champion)
    refuse_leak(record["rows"], test_texts, "document")
    model, seeds = registry.model(champion), sample_seeds(seed, language.n_seeds)
    judge = make_text_judge(train_texts, validation_texts, test_texts, language)
    if any(n_tokens(model, text) is None for text in judge.test):
        logger.warning(
            "version %d, %s, stands aside: today's test texts have characters that its tokenizer does not know; "
            "byte or bpe would know all",
            champion.number,
            champion.family,
        )
        return {}
    began = time.perf_counter()
    texts = generated(model, language, seeds, f"champion, {champion.family}")
    cost = {"sample_ms": 1000 * (time.perf_counter() - began) / (language.n * len(seeds))}
    metrics = judge.family(model, texts, seeds, ema=record["passport"]["ema"])
    found = as_champion(with_costs(metrics, record["training"] | cost), champion, registry)
    n = gone(record, (train_texts, validation_texts, test_texts))
    note = (
        f"{n:,} documents that the champion was fitted to are gone, or not as they were: where what became of them is "
        "test text now, it is judged too well."
    )
    return found | {"notes": [note] if n else []}


@skippable
def enter_texts(metrics: Record, training_record: Record, generation_cost: Record) -> Record:
    """Return what the gate looks at of one family, of whose texts no classifier was tried."""
    found: Record = enter(metrics, training_record, generation_cost, None)
    return found


def draw_champion_texts(registry: Registry, experiment: Record, parameters: Record) -> tuple[str, Record]:
    """Return what the champion writes, as the block `sampling` of its family asks, and a record of how it was drawn.

    Raises:
        SimulacraError: where there is no champion yet.
    """
    from simulacra.training.progress import announced

    champion = registry.need_champion()
    block = parameters[experiment["dataset"]].get(champion.family) or {"family": champion.family}
    with announced(f"champion, {champion.family}, drawing"):
        drawn, record = asked_for(registry.model(champion), TextFamilyConfig.model_validate(block).sampling)
    return drawn, record | {"version": champion.number, "family": champion.family}

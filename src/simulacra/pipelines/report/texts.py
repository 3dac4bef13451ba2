"""Gather what every family of texts left behind into one leaderboard and one page."""

from typing import Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, TextSet
from simulacra.pipelines.report.shared import family_summary, shown_family, whole_report

SHOWN = 6
"""Texts a family, and real ones, that the page shows."""
LETTERS = 600
"""Characters of a text that the page shows."""


@skippable
def summarise_text_family(
    metrics: dict[str, Any],
    texts: list[list[str]],
    train_texts: TextSet,
    history: DataFrame,
    training_record: dict[str, Any],
    generation_cost: dict[str, Any],
    drawing_record: dict[str, Any],
) -> dict[str, Any]:
    """Return all that the page shows of one family, fit for JSON: texts beside the training passages nearest to them.

    Raises:
        SimulacraError: where metrics or texts are those of an older model.
    """
    from simulacra.metrics.texts import nearest

    shown = [text[:LETTERS] for text in texts[0][:SHOWN]]
    return family_summary(metrics, history, training_record, generation_cost, drawing_record) | {
        "passages": [{"text": text, **nearest(text, train_texts.passages())._asdict()} for text in shown],
        "asked": drawing_record["options"],
    }


@skippable
def write_text_report(
    leaderboard: DataFrame,
    baselines: list[dict[str, Any]],
    test_texts: TextSet,
    split_record: dict[str, Any],
    ingest_record: dict[str, Any],
    experiment: dict[str, Any],
    *summaries: dict[str, Any],
) -> str:
    """Return the page as HTML."""
    from simulacra.report.page import Passage, render

    families = [
        shown_family(
            summary,
            {"n": 5, "seed": 1, "prompt": "The", "tokens": 100} | summary["asked"],
            experiment,
            passages=[Passage(**passage) for passage in summary["passages"]],
        )
        for summary in summaries
    ]
    real = [test_texts[row][:LETTERS] for row in range(min(SHOWN // 2, len(test_texts)))]
    return render(
        whole_report(
            leaderboard, baselines, split_record, ingest_record, experiment, summaries, families, real_texts=real
        )
    )

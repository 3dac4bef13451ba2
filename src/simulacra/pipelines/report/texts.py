"""Gather what every family of texts left behind into one leaderboard and one page."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

from simulacra.experiments import with_parameter
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, TextSet
from simulacra.pipelines.report.nodes import COSTS, refuse_stale

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
    import yaml

    from simulacra.metrics.texts import nearest
    from simulacra.plotting import png, training_curves

    family, model = metrics["row"], training_record["model_sha256"]
    refuse_stale(metrics, model, f"the metrics of {family} are", "--pipelines generate,evaluate")
    refuse_stale(drawing_record, model, f"what {family} drew is", "--pipeline generate")
    measured = training_record | generation_cost
    costs = {key: {"value": measured[key], "std": None, "per_seed": None} for key in COSTS}
    shown = [text[:LETTERS] for text in texts[0][:SHOWN]]
    return {
        "record": metrics | {"metrics": metrics["metrics"] | costs},
        "passages": [{"text": text, **nearest(text, train_texts.passages())._asdict()} for text in shown],
        "curves": b64encode(png(training_curves(history))).decode() if len(history) else None,
        "training": {key: value for key, value in training_record.items() if key not in {"config", "flags"}},
        "flags": training_record["flags"],
        "config": yaml.safe_dump(training_record["config"], sort_keys=False),
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
    from simulacra.metrics.passport import library_versions
    from simulacra.provenance import git_commit
    from simulacra.report.page import Family, Passage, Report, render

    dataset = experiment["dataset"]
    return render(
        Report(
            dataset=dataset,
            kind=experiment["kind"],
            generated_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            leaderboard=leaderboard,
            records=[*baselines, *(summary["record"] for summary in summaries)],
            families=[
                Family(
                    summary["record"]["row"],
                    curves=b64decode(summary["curves"]) if summary["curves"] else None,
                    training=summary["training"],
                    config=summary["config"],
                    flags=summary["flags"],
                    drawing_command=_drawing_command(summary, experiment),
                    passages=[Passage(**passage) for passage in summary["passages"]],
                )
                for summary in summaries
            ],
            real_texts=[test_texts[row][:LETTERS] for row in range(min(SHOWN // 2, len(test_texts)))],
            split=split_record,
            ingest=ingest_record,
            commands=[
                f"kedro run --namespaces {dataset}{experiment['options']}",
                *(summary["training"]["command"] for summary in summaries),
                f"kedro run --pipeline report --namespaces {dataset}{experiment['options']}",
            ],
            commit=git_commit(),
            versions=library_versions(),
        )
    )


def _drawing_command(summary: dict[str, Any], experiment: dict[str, Any]) -> str:
    """Return the command that draws other texts of a family, with all that can be said to it."""
    place = f"{experiment['dataset']}.{summary['record']['row']}"
    said = {"n": 5, "seed": 1, "prompt": "The", "tokens": 100} | summary["asked"]
    options = ",".join(f"{place}.sampling.{key}={value}" for key, value in said.items())
    return f"kedro run --pipeline generate --namespaces {place}{with_parameter(experiment['options'], options)}"

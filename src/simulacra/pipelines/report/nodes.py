"""Gather what every family left behind into one leaderboard and one page."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

from simulacra.errors import SimulacraError
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, ImageSet

COSTS = ("train_seconds", "parameters", "sample_ms")


@skippable
def summarise_family(
    metrics: dict[str, Any],
    samples: ImageSet,
    history: DataFrame,
    training_record: dict[str, Any],
    generation_cost: dict[str, Any],
    verdict: dict[str, Any],
) -> dict[str, Any]:
    """Return all that the page shows of one family, fit for JSON: pictures are PNG as base64.

    Costs join the metrics only here, since no two runs share them.

    Raises:
        SimulacraError: where the metrics are those of an older model.
    """
    import yaml

    from simulacra.plotting import png, sample_grid, training_curves

    if metrics["model_sha256"] != training_record["model_sha256"]:
        family = metrics["row"]
        raise SimulacraError(
            f"the metrics of {family} are an older model's; run `kedro run --pipelines generate,evaluate`"
        )
    measured = training_record | generation_cost
    costs = {key: {"value": measured[key], "std": None, "per_seed": None} for key in COSTS}
    return {
        "record": metrics | {"metrics": metrics["metrics"] | costs},
        "verdict": verdict,
        "samples": _text(png(sample_grid(samples))),
        "curves": _text(png(training_curves(history))) if len(history) else None,
        "training": {key: value for key, value in training_record.items() if key != "config"},
        "config": yaml.safe_dump(training_record["config"], sort_keys=False),
    }


@skippable
def make_leaderboard(baselines: list[dict[str, Any]], *summaries: dict[str, Any]) -> DataFrame:
    """Return the leaderboard: floor, families by rank, noise."""
    from simulacra.report.leaderboard import leaderboard

    return leaderboard([*baselines, *(summary["record"] for summary in summaries)])


@skippable
def write_report(
    leaderboard: DataFrame,
    baselines: list[dict[str, Any]],
    train_set: ImageSet,
    split_record: dict[str, Any],
    ingest_record: dict[str, Any],
    experiment: dict[str, Any],
    *summaries: dict[str, Any],
) -> str:
    """Return the page as HTML."""
    from simulacra.metrics.passport import library_versions
    from simulacra.plotting import png, sample_grid
    from simulacra.provenance import git_commit
    from simulacra.report.page import Family, Report, render

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
                    b64decode(summary["samples"]),
                    b64decode(summary["curves"]) if summary["curves"] else None,
                    summary["training"],
                    summary["config"],
                )
                for summary in summaries
            ],
            real=png(sample_grid(train_set)),
            class_names=train_set.class_names,
            verdicts=[summary["verdict"] for summary in summaries],
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


def _text(image: bytes) -> str:
    return b64encode(image).decode()

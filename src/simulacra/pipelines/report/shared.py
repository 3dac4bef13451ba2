"""What the pages of images and of texts have in common."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from simulacra.experiments import with_parameter
from simulacra.pipelines.annotations import DataFrame
from simulacra.pipelines.checks import refuse_stale

if TYPE_CHECKING:
    from simulacra.report.page import Family, Report

Record = dict[str, Any]


def family_summary(
    metrics: Record, history: DataFrame, training_record: Record, generation_cost: Record, drawing_record: Record
) -> Record:
    """Return what the page shows of any family, fit for JSON: pictures are PNG as base64.

    Costs join the metrics only here, since no two runs share them.

    Raises:
        SimulacraError: where metrics or what was drawn are those of an older model.
    """
    import yaml

    from simulacra.plotting import png, training_curves

    family, model = metrics["row"], training_record["model_sha256"]
    refuse_stale(metrics, model, f"the metrics of {family} are", "--pipelines generate,evaluate")
    refuse_stale(drawing_record, model, f"what {family} drew is", "--pipeline generate")
    return {
        "record": with_costs(metrics, training_record | generation_cost),
        "curves": encoded(png(training_curves(history))) if len(history) else None,
        "training": {key: value for key, value in training_record.items() if key not in {"config", "flags"}},
        # A model that was fitted before there were flags has none.
        "flags": training_record.get("flags", []),
        "config": yaml.safe_dump(training_record["config"], sort_keys=False),
    }


def with_costs(record: Record, measured: Record) -> Record:
    """Return a metrics record with those costs among its metrics that were measured."""
    from simulacra.metrics import COSTS

    known = [key for key in COSTS if measured.get(key) is not None]
    costs = {key: {"value": measured[key], "std": None, "per_seed": None} for key in known}
    return record | {"metrics": record["metrics"] | costs}


def shown_family(summary: Record, said: Record, experiment: Record, **more: Any) -> "Family":
    """Return a family as the page takes it.

    Args:
        summary: what `family_summary` returned, at least.
        said: what the command that draws other samples says, by option.
        experiment: dataset and options of the run.
        more: what only images or only texts have.
    """
    from simulacra.report.page import Family

    row = summary["record"]["row"]
    place = f"{experiment['dataset']}.{row}"
    options = ",".join(f"{place}.sampling.{key}={value}" for key, value in said.items())
    return Family(
        row,
        curves=b64decode(summary["curves"]) if summary["curves"] else None,
        training=summary["training"],
        config=summary["config"],
        flags=summary["flags"],
        drawing_command=f"kedro run --pipeline generate --namespaces {place}"
        f"{with_parameter(experiment['options'], options)}",
        **more,
    )


def whole_report(
    leaderboard: DataFrame,
    baselines: Sequence[Record],
    split_record: Record,
    ingest_record: Record,
    experiment: Record,
    summaries: Sequence[Record],
    families: "Sequence[Family]",
    **more: Any,
) -> "Report":
    """Return all that the page holds; `more` is what only images or only texts have."""
    from simulacra.metrics.passport import library_versions
    from simulacra.provenance import git_commit
    from simulacra.report.page import Report

    dataset = experiment["dataset"]
    records = [*baselines, *(summary["record"] for summary in summaries)]
    return Report(
        dataset=dataset,
        kind=experiment["kind"],
        generated_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        leaderboard=leaderboard,
        records=records,
        # One that was made before there were any has none.
        notes=list(dict.fromkeys(caution for record in records for caution in record.get("cautions", ()))),
        families=families,
        split=split_record,
        ingest=ingest_record,
        commands=[
            f"kedro run --namespaces {dataset}{experiment['options']}",
            *(summary["training"]["command"] for summary in summaries),
            f"kedro run --pipeline report --namespaces {dataset}{experiment['options']}",
        ],
        commit=git_commit(),
        versions=library_versions(),
        **more,
    )


def encoded(image: bytes) -> str:
    """Return bytes as text that JSON takes."""
    return b64encode(image).decode()

"""Gather what every family left behind into one leaderboard and one page."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from simulacra.errors import SimulacraError
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, ImageSet

if TYPE_CHECKING:
    from simulacra.report.page import Editing, Latent

COSTS = ("train_seconds", "parameters", "sample_ms")
MAP_PAGE = "{family}/latent_map.html"
"""Where the map of a family's latent space lies, as seen from the report; the catalog puts it there."""


@skippable
def summarise_family(
    metrics: dict[str, Any],
    samples: ImageSet,
    history: DataFrame,
    training_record: dict[str, Any],
    generation_cost: dict[str, Any],
    verdict: dict[str, Any],
    exploration: dict[str, Any] | None = None,
    explored_images: ImageSet | None = None,
    latent_map: DataFrame | None = None,
    edits: dict[str, Any] | None = None,
    edited_images: ImageSet | None = None,
) -> dict[str, Any]:
    """Return all that the page shows of one family, fit for JSON: pictures are PNG as base64.

    Costs join the metrics only here, since no two runs share them. Only a family with codes has been explored, and only
    one that denoises has edited.

    Raises:
        SimulacraError: where the metrics, or what was explored or edited, are those of an older model.
    """
    import yaml

    from simulacra.plotting import png, sample_grid, training_curves

    if metrics["model_sha256"] != training_record["model_sha256"]:
        family = metrics["row"]
        raise SimulacraError(
            f"the metrics of {family} are an older model's; run `kedro run --pipelines generate,evaluate`"
        )
    if exploration and exploration["model_sha256"] != training_record["model_sha256"]:
        raise SimulacraError(
            f"the latent space of {metrics['row']} is an older model's; run `kedro run --pipeline explore`"
        )
    if edits and edits["model_sha256"] != training_record["model_sha256"]:
        raise SimulacraError(f"the edits of {metrics['row']} are an older model's; run `kedro run --pipeline edit`")
    measured = training_record | generation_cost
    costs = {key: {"value": measured[key], "std": None, "per_seed": None} for key in COSTS}
    return {
        "record": metrics | {"metrics": metrics["metrics"] | costs},
        "verdict": verdict,
        "samples": _text(png(sample_grid(samples))),
        "curves": _text(png(training_curves(history))) if len(history) else None,
        "training": {key: value for key, value in training_record.items() if key not in {"config", "flags"}},
        # A model that was fitted before there were flags has none.
        "flags": training_record.get("flags", []),
        "config": yaml.safe_dump(training_record["config"], sort_keys=False),
        "latent": _latent_summary(exploration, explored_images, latent_map),
        "editing": _editing_summary(edits, edited_images),
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
                    summary["flags"],
                    _latent(summary),
                    _editing(summary),
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


def _latent_summary(
    exploration: dict[str, Any] | None, explored_images: ImageSet | None, latent_map: DataFrame | None
) -> dict[str, Any] | None:
    """Return what the page shows of a latent space; None of a family without one."""
    if exploration is None or explored_images is None or latent_map is None:
        return None
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import latent_scatter, picture_table, png

    shown = [
        {"title": panel.title, "caption": panel.caption, "picture": _text(png(picture_table([panel])))}
        for panel in unpack(exploration["panels"], explored_images)
    ]
    places = {
        "title": "Map of the codes",
        "caption": exploration["map_caption"],
        "picture": _text(png(latent_scatter(latent_map, exploration["class_names"]))),
    }
    return {"metrics": exploration["metrics"], "omitted": exploration["omitted"], "pictures": shown, "map": places}


def _latent(summary: dict[str, Any]) -> "Latent | None":
    from simulacra.report.page import Latent, Picture

    latent = summary["latent"]
    if latent is None:
        return None

    def picture(entry: dict[str, str]) -> Picture:
        return Picture(entry["title"], entry["caption"], b64decode(entry["picture"]))

    page = MAP_PAGE.format(family=summary["record"]["row"])
    pictures = [picture(entry) for entry in latent["pictures"]]
    return Latent(latent["metrics"], latent["omitted"], pictures, picture(latent["map"]), page)


def _editing_summary(edits: dict[str, Any] | None, edited_images: ImageSet | None) -> dict[str, Any] | None:
    """Return what the page shows of edits; None of a family that made none."""
    if edits is None or edited_images is None:
        return None
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import picture_table, png

    shown = [
        {"title": panel.title, "caption": panel.caption, "picture": _text(png(picture_table([panel])))}
        for panel in unpack(edits["panels"], edited_images)
    ]
    return {key: edits[key] for key in ("sentence", "about", "omitted", "command")} | {"pictures": shown}


def _editing(summary: dict[str, Any]) -> "Editing | None":
    from simulacra.report.page import Editing, Picture

    editing = summary["editing"]
    if editing is None:
        return None
    pictures = [Picture(each["title"], each["caption"], b64decode(each["picture"])) for each in editing["pictures"]]
    return Editing(editing["about"], editing["sentence"], editing["omitted"], pictures, editing["command"])


def _text(image: bytes) -> str:
    return b64encode(image).decode()

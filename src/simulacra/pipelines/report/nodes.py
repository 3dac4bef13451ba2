"""Gather what every family left behind into one leaderboard and one page."""

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, ImageSet
from simulacra.pipelines.checks import refuse_stale
from simulacra.pipelines.report.shared import encoded, family_summary, shown_family, whole_report

if TYPE_CHECKING:
    from simulacra.report.page import Editing, Latent, Picture

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
    drawing_record: dict[str, Any],
    exploration: dict[str, Any] | None = None,
    explored_images: ImageSet | None = None,
    latent_map: DataFrame | None = None,
    film: ImageSet | None = None,
    prompt_fidelity: dict[str, Any] | None = None,
    prompted_images: ImageSet | None = None,
    edits: dict[str, Any] | None = None,
    edited_images: ImageSet | None = None,
    neighbours: dict[str, Any] | None = None,
    neighbour_images: ImageSet | None = None,
) -> dict[str, Any]:
    """Return all that the page shows of one family, fit for JSON: pictures are PNG as base64.

    Only a family with codes has been explored, only one that denoises has been filmed and has edited, and only one that
    may take prompts was asked for some.

    Raises:
        SimulacraError: where metrics, pictures or what was explored are those of an older model.
    """
    from simulacra.plotting import png, sample_grid

    family, model = metrics["row"], training_record["model_sha256"]
    refuse_stale(neighbours, model, f"the neighbours of samples of {family} are", "--pipeline evaluate")
    refuse_stale(exploration, model, f"the latent space of {family} is", "--pipeline explore")
    refuse_stale(prompt_fidelity, model, f"what {family} drew by prompt is", "--pipeline evaluate")
    refuse_stale(edits, model, f"the edits of {family} are", "--pipeline edit")
    return family_summary(metrics, history, training_record, generation_cost, drawing_record) | {
        "verdict": verdict,
        "samples": encoded(png(sample_grid(samples))),
        "neighbours": _panel_summary(neighbours, neighbour_images) if neighbours and neighbour_images else None,
        "latent": _latent_summary(exploration, explored_images, latent_map),
        "asked": {key: drawing_record[key] for key in ("options", "class_names")},
        "film": None if film is None else _film_summary(drawing_record, film),
        "prompts": _prompts_summary(prompt_fidelity, prompted_images),
        "editing": _editing_summary(edits, edited_images),
    }


@skippable
def make_leaderboard(baselines: list[dict[str, Any]], *summaries: dict[str, Any]) -> DataFrame:
    """Return the leaderboard: floor, families by rank, noise."""
    from simulacra.report.leaderboard import leaderboard

    return leaderboard([*baselines, *(summary["record"] for summary in summaries)])


@skippable
def make_image_leaderboard(
    baselines: list[dict[str, Any]],
    guest_records: list[dict[str, Any]],
    human_record: dict[str, Any] | None,
    *summaries: dict[str, Any],
) -> DataFrame:
    """Return the leaderboard, with what people say of those families whose present model they judged."""
    from simulacra.report.human import judged
    from simulacra.report.leaderboard import leaderboard

    return leaderboard(
        [*baselines, *guest_records, *(judged(summary["record"], human_record) for summary in summaries)]
    )


@skippable
def write_report(
    leaderboard: DataFrame,
    baselines: list[dict[str, Any]],
    guest_records: list[dict[str, Any]],
    train_set: ImageSet,
    split_record: dict[str, Any],
    ingest_record: dict[str, Any],
    human_record: dict[str, Any] | None,
    evaluator_record: dict[str, Any],
    experiment: dict[str, Any],
    *summaries: dict[str, Any],
) -> str:
    """Return the page as HTML."""
    from simulacra.plotting import png, sample_grid
    from simulacra.report.human import human_section
    from simulacra.report.page import render

    families = [
        shown_family(
            summary,
            _said(summary["asked"]),
            experiment,
            samples=b64decode(summary["samples"]),
            latent=_latent(summary),
            film=_film(summary),
            neighbours=_picture(summary.get("neighbours")),
            prompts=_picture(summary.get("prompts")),
            editing=_editing(summary),
        )
        for summary in summaries
    ]
    return render(
        whole_report(
            leaderboard,
            [*baselines, *guest_records],
            split_record,
            ingest_record,
            experiment,
            summaries,
            families,
            real=png(sample_grid(train_set)),
            class_names=train_set.class_names,
            verdicts=[summary["verdict"] for summary in summaries],
            human=human_section(human_record, [summary["record"] for summary in summaries]) if human_record else None,
            evaluator=_evaluator(evaluator_record),
        )
    )


def _evaluator(record: dict[str, Any]) -> "Picture":
    from simulacra.metrics import METRICS
    from simulacra.plotting import png, response_figure
    from simulacra.report.page import Picture
    from simulacra.report.sentences import evaluator_sentences

    title = METRICS[record["metric"]].title
    picture = png(response_figure(record["curves"], title))
    return Picture(f"{title} of real images made worse", evaluator_sentences(record), picture)


def _latent_summary(
    exploration: dict[str, Any] | None, explored_images: ImageSet | None, latent_map: DataFrame | None
) -> dict[str, Any] | None:
    """Return what the page shows of a latent space; None of a family without one."""
    if exploration is None or explored_images is None or latent_map is None:
        return None
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import latent_scatter, picture_table, png

    shown = [
        {"title": panel.title, "caption": panel.caption, "picture": encoded(png(picture_table([panel])))}
        for panel in unpack(exploration["panels"], explored_images)
    ]
    places = {
        "title": "Map of the codes",
        "caption": exploration["map_caption"],
        "picture": encoded(png(latent_scatter(latent_map, exploration["class_names"]))),
    }
    return {"metrics": exploration["metrics"], "omitted": exploration["omitted"], "pictures": shown, "map": places}


def _film_summary(drawing_record: dict[str, Any], film: ImageSet) -> dict[str, str]:
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import picture_table, png

    panels = unpack(drawing_record["film"], film)
    options = ", ".join(f"{key} {value}" for key, value in drawing_record["options"].items())
    caption = f"{' '.join(f'{panel.title}: {panel.caption}' for panel in panels)} Drawn by {options}."
    return {"title": "From noise to image", "caption": caption, "picture": encoded(png(picture_table(panels)))}


def _film(summary: dict[str, Any]) -> "Picture | None":
    from simulacra.report.page import Picture

    film = summary["film"]
    return film and Picture(film["title"], film["caption"], b64decode(film["picture"]))


def _said(asked: dict[str, Any]) -> dict[str, Any]:
    """Return all that can be said to the command that draws other samples of a family."""
    names = asked["class_names"]
    classes = {"classes": _spelt(names)} if names else {}
    return {"n": 64, "seed": 1, **classes, **asked["options"]}


def _spelt(class_names: list[str]) -> str:
    """Return the last class as the command line takes it: by its name unless YAML reads that as something else."""
    import yaml

    name = class_names[-1]
    plain = re.fullmatch(r"[\w-]+", name) and str(yaml.safe_load(name)) == name
    return name if plain else str(len(class_names) - 1)


def _prompts_summary(prompt_fidelity: dict[str, Any] | None, prompted_images: ImageSet | None) -> dict[str, str] | None:
    """Return what the page shows of what was drawn by prompt; None where no prompts were taken."""
    if prompt_fidelity is None or prompted_images is None or not prompt_fidelity["panels"]:
        return None
    from simulacra.report.sentences import prompt_sentences

    shown = _panel_summary(prompt_fidelity, prompted_images)
    return shown | {"caption": f"{shown['caption']} {prompt_sentences(prompt_fidelity)}"}


def _panel_summary(record: dict[str, Any], pixels: ImageSet) -> dict[str, str]:
    """Return what the page shows of one panel."""
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import picture_table, png

    (panel,) = unpack(record["panels"], pixels)
    return {"title": panel.title, "caption": panel.caption, "picture": encoded(png(picture_table([panel])))}


def _picture(shown: dict[str, str] | None) -> "Picture | None":
    """Return a picture of a summary; one that was made before there were such pictures has none."""
    from simulacra.report.page import Picture

    return Picture(shown["title"], shown["caption"], b64decode(shown["picture"])) if shown else None


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
        {"title": panel.title, "caption": panel.caption, "picture": encoded(png(picture_table([panel])))}
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

"""Templates of the stage `report`: once a dataset and family, and once a dataset over its families."""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from simulacra.models import Family
from simulacra.pipelines.report.nodes import make_image_leaderboard, make_leaderboard, summarise_family, write_report
from simulacra.pipelines.report.texts import summarise_text_family, write_text_report


def create_family_pipeline(family: Family) -> Pipeline:
    """Return all of a family's results → summary: latent space, film, edits and prompts where it has any."""
    results = ["metrics", "samples", "history", "training_record", "generation_cost", "verdict", "drawing_record"]
    results += ["neighbours", "neighbour_images"]
    results += ["exploration", "explored_images", "latent_map"] if family.latent else []
    results += ["film", "edits", "edited_images"] if family.denoises else []
    results += ["prompt_fidelity", "prompted_images"] if family.prompts else []
    by_name = {name: name for name in results}
    return Pipeline([Node(summarise_family, by_name, "summary", name="summarise", tags="report")])


def create_dataset_pipeline(families: Sequence[str]) -> Pipeline:
    """Return the families' summaries, and what people say where they were asked → leaderboard, report."""
    summaries = [f"{family}.summary" for family in families]
    about = ["train_set", "split_record", "ingest_record", "human_record", "evaluator_record", "params:experiment"]
    ranked = ["baselines", "guest_records", "human_record", *summaries]
    return Pipeline(
        [
            Node(make_image_leaderboard, ranked, "leaderboard", name="make_leaderboard", tags="report"),
            Node(
                write_report,
                ["leaderboard", "baselines", "guest_records", *about, *summaries],
                "report",
                name="write_report",
                tags="report",
            ),
        ]
    )


def create_family_text_pipeline() -> Pipeline:
    """Return all of a family's results → summary."""
    results = ["metrics", "texts", "train_texts", "history", "training_record", "generation_cost", "drawing_record"]
    by_name = {name: name for name in results}
    return Pipeline([Node(summarise_text_family, by_name, "summary", name="summarise", tags="report")])


def create_dataset_text_pipeline(families: Sequence[str]) -> Pipeline:
    """Return the families' summaries → leaderboard, report."""
    summaries = [f"{family}.summary" for family in families]
    about = ["test_texts", "split_record", "ingest_record", "params:experiment"]
    inputs = ["leaderboard", "baselines", *about, *summaries]
    return Pipeline(
        [
            Node(make_leaderboard, ["baselines", *summaries], "leaderboard", name="make_leaderboard", tags="report"),
            Node(write_text_report, inputs, "report", name="write_report", tags="report"),
        ]
    )

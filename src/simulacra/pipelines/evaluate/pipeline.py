"""Templates of the stage `evaluate`: once a dataset, and once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.models import Family
from simulacra.pipelines.evaluate.nodes import (
    evaluate,
    evaluate_baselines,
    find_neighbours,
    judge_guests,
    plot_prompts,
    train_extractor,
    try_evaluator,
    try_prompts,
)
from simulacra.pipelines.evaluate.texts import evaluate_text_baselines, evaluate_texts

JUDGING = ["extractor", "extractor_record", "train_set", "validation_set", "test_set"]
JUDGING += ["params:generation", "params:evaluation"]
"""What it takes to judge images."""


def create_dataset_pipeline() -> Pipeline:
    """Return train_set → extractor → baselines, guests, and how the evaluator answers to images made worse."""
    splits = ["validation_set", "test_set"]
    return Pipeline(
        [
            Node(
                train_extractor,
                ["train_set", *splits, "params:evaluation", "params:seed"],
                ["extractor", "extractor_record"],
                name="train_extractor",
                tags=["evaluate", "shared"],
            ),
            Node(
                evaluate_baselines, [*JUDGING, "params:seed"], "baselines", name="evaluate_baselines", tags="evaluate"
            ),
            Node(
                judge_guests,
                ["params:guests", *JUDGING, "params:seed"],
                "guest_records",
                name="judge_guests",
                tags="evaluate",
            ),
            Node(try_evaluator, [*JUDGING, "params:seed"], "evaluator_record", name="try_evaluator", tags="evaluate"),
        ]
    )


def create_family_pipeline(family: Family) -> Pipeline:
    """Return samples, model, extractor → metrics, nearest training images, and prompts where the family takes any."""
    own = ["model", "samples", "generation_record", "training_record", "split_record"]
    judged = Node(evaluate, [*own, *JUDGING], "metrics", name="evaluate", tags="evaluate")
    inputs = ["samples", "generation_record", "extractor", "extractor_record", "train_set"]
    record = ["neighbours", "neighbour_images"]
    found = Node(find_neighbours, inputs, record, name="find_neighbours", tags="evaluate")
    if not family.prompts:
        return Pipeline([judged, found])
    inputs = ["model", "extractor", "extractor_record", "params:seed"]
    record = ["prompt_fidelity", "prompted_images"]
    tried = Node(try_prompts, inputs, record, name="try_prompts", tags="evaluate")
    drawn = Node(plot_prompts, record, "prompt_grid", name="plot_prompts", tags="evaluate")
    return Pipeline([judged, found, tried, drawn])


TEXTS = ["train_texts", "validation_texts", "test_texts", "params:language"]


def create_dataset_text_pipeline() -> Pipeline:
    """Return held-out texts → baselines."""
    inputs = [*TEXTS, "params:seed"]
    return Pipeline([Node(evaluate_text_baselines, inputs, "baselines", name="evaluate_baselines", tags="evaluate")])


def create_family_text_pipeline() -> Pipeline:
    """Return texts, model, held-out texts → metrics."""
    own = ["model", "texts", "generation_record", "training_record", "split_record"]
    return Pipeline([Node(evaluate_texts, [*own, *TEXTS], "metrics", name="evaluate", tags="evaluate")])

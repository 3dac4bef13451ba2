"""Templates of the stage `evaluate`: once a dataset, once a dataset and family, once more for one with prompts."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.evaluate.nodes import evaluate, evaluate_baselines, plot_prompts, train_extractor, try_prompts


def create_dataset_pipeline() -> Pipeline:
    """Return train_set → extractor → baselines."""
    splits = ["validation_set", "test_set"]
    return Pipeline(
        [
            Node(
                train_extractor,
                ["train_set", *splits, "params:evaluation", "params:seed"],
                ["extractor", "extractor_record"],
                name="train_extractor",
                tags="evaluate",
            ),
            Node(
                evaluate_baselines,
                ["extractor", "extractor_record", *splits, "params:generation", "params:evaluation", "params:seed"],
                "baselines",
                name="evaluate_baselines",
                tags="evaluate",
            ),
        ]
    )


def create_family_pipeline() -> Pipeline:
    """Return samples, model, extractor → metrics."""
    own = ["model", "samples", "generation_record", "training_record", "split_record"]
    shared = ["extractor", "extractor_record", "validation_set", "test_set", "params:generation", "params:evaluation"]
    return Pipeline([Node(evaluate, [*own, *shared], "metrics", name="evaluate", tags="evaluate")])


def create_prompt_pipeline() -> Pipeline:
    """Return model, extractor → how faithful it is to prompts, in numbers and pictures."""
    inputs = ["model", "extractor", "extractor_record", "params:seed"]
    record = ["prompt_fidelity", "prompted_images"]
    return Pipeline(
        [
            Node(try_prompts, inputs, record, name="try_prompts", tags="evaluate"),
            Node(plot_prompts, record, "prompt_grid", name="plot_prompts", tags="evaluate"),
        ]
    )

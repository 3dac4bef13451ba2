"""Templates of the stage `evaluate`: once a dataset, and once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.evaluate.nodes import evaluate, evaluate_baselines, train_extractor


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

"""Template of the stage `preprocess`, once a dataset."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.preprocess.nodes import split


def create_pipeline() -> Pipeline:
    """Return raw → train_set, validation_set, test_set."""
    outputs = ["train_set", "validation_set", "test_set", "split_record"]
    inputs = ["raw", "params:split", "params:generation", "params:evaluation", "params:editing"]
    return Pipeline([Node(split, inputs, outputs, name="split", tags="preprocess")])

"""Template of the stage `preprocess`, once a dataset."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.preprocess.nodes import split
from simulacra.pipelines.preprocess.texts import split_texts


def create_pipeline() -> Pipeline:
    """Return raw → train_set, validation_set, test_set."""
    outputs = ["train_set", "validation_set", "test_set", "split_record"]
    inputs = ["raw", "params:split", "params:generation", "params:evaluation", "params:editing"]
    return Pipeline([Node(split, inputs, outputs, name="split", tags=["preprocess", "shared"])])


def create_text_pipeline() -> Pipeline:
    """Return raw_texts → train_texts, validation_texts, test_texts."""
    outputs = ["train_texts", "validation_texts", "test_texts", "split_record"]
    return Pipeline(
        [Node(split_texts, ["raw_texts", "params:split"], outputs, name="split", tags=["preprocess", "shared"])]
    )

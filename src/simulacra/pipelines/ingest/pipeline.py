"""Template of the stage `ingest`, once a dataset."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.ingest.nodes import ingest
from simulacra.pipelines.ingest.texts import ingest_texts


def create_pipeline() -> Pipeline:
    """Return source → raw."""
    return Pipeline([Node(ingest, "params:source", ["raw", "ingest_record"], name="ingest", tags="ingest")])


def create_text_pipeline() -> Pipeline:
    """Return source → raw_texts."""
    outputs = ["raw_texts", "ingest_record"]
    return Pipeline([Node(ingest_texts, "params:source", outputs, name="ingest", tags="ingest")])

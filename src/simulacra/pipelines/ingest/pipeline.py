"""Template of the stage `ingest`, once a dataset."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.ingest.nodes import ingest


def create_pipeline() -> Pipeline:
    """Return source → raw."""
    return Pipeline([Node(ingest, "params:source", ["raw", "ingest_record"], name="ingest", tags="ingest")])

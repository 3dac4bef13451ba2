"""Read a dataset of texts from its source."""

from typing import Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import TextSet
from simulacra.pipelines.config import TextSourceConfig


@skippable
def ingest_texts(source: TextSourceConfig) -> tuple[TextSet, dict[str, Any]]:
    """Return the checked documents and a record of where they came from."""
    from simulacra.data.texts import load_texts

    return load_texts(source.root)

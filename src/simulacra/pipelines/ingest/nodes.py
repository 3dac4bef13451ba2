"""Read a dataset from its source."""

from typing import Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import ImageSet
from simulacra.pipelines.config import SourceConfig


@skippable
def ingest(source: SourceConfig) -> tuple[ImageSet, dict[str, Any]]:
    """Return the checked images and a record of where they came from."""
    from simulacra.data.images import load_images

    return load_images(source.root)

"""Split the images so that no test row reaches a training."""

from typing import Any

from simulacra.data.config import SplitConfig
from simulacra.pipelines.annotations import ImageSet


def split(raw: ImageSet, config: SplitConfig) -> tuple[ImageSet, ImageSet, ImageSet, dict[str, Any]]:
    """Return training, validation and test set, and a record with the hash of each."""
    from simulacra.data.split import stratified_split

    parts = stratified_split(raw, config)
    return parts.train, parts.validation, parts.test, parts.record()

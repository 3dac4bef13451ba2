"""Split the images so that no test row reaches a training."""

from typing import Any

from simulacra.data.image_set import ImageSet
from simulacra.data.split import SplitConfig, stratified_split


def split(raw: ImageSet, config: SplitConfig) -> tuple[ImageSet, ImageSet, ImageSet, dict[str, Any]]:
    """Return training, validation and test set, and a record with the hash of each."""
    parts = stratified_split(raw, config)
    return parts.train, parts.validation, parts.test, parts.record()

"""Split texts into training, validation and test set."""

from typing import Any

from simulacra.data.config import SplitConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import TextSet


@skippable
def split_texts(raw: TextSet, config: SplitConfig) -> tuple[TextSet, TextSet, TextSet, dict[str, Any]]:
    """Return training, validation and test set, and a record with the hash of each.

    Raises:
        SimulacraError: where the text is too little to be split.
    """
    from simulacra.data.text_split import split_texts

    parts = split_texts(raw, config)
    return parts.train, parts.validation, parts.test, parts.record()

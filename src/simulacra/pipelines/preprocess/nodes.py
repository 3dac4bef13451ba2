"""Split the images so that no test row reaches a training."""

from typing import Any

from simulacra.data.config import SplitConfig
from simulacra.editing.config import EditingConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import ImageSet
from simulacra.pipelines.config import EvaluationConfig, GenerationConfig


@skippable
def split(
    raw: ImageSet,
    config: SplitConfig,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
    editing: EditingConfig,
) -> tuple[ImageSet, ImageSet, ImageSet, dict[str, Any]]:
    """Return training, validation and test set, and a record with the hash of each.

    Raises:
        SimulacraError: where the data are too few to be split, or the splits too small to be compared by, and where
            what is to be edited cannot be.
    """
    from simulacra.data.split import stratified_split
    from simulacra.editing.pictures import read_pictures
    from simulacra.metrics.judge import images_a_side

    parts = stratified_split(raw, config)
    # Asked now, not after an hour of training.
    images_a_side(generation.n, len(parts.validation), len(parts.test), neighbours=evaluation.neighbours)
    read_pictures(editing, parts.test)
    return parts.train, parts.validation, parts.test, parts.record()

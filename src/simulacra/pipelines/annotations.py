"""Types for node annotations whose libraries, numpy among them, are too slow to import while Kedro builds the graph.

Kedro reads a node's annotations to check its parameters, so every name in them must exist at run time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from simulacra.augmentation.classifiers import ImageClassifier
    from simulacra.data.image_set import ImageSet
    from simulacra.data.text_set import TextSet
    from simulacra.models.base import ImageModel
    from simulacra.models.language import LanguageModel
    from simulacra.pipelines.config import SamplingConfig, TextSamplingConfig
    from simulacra.retraining.former import Former
    from simulacra.retraining.registry import Registry
else:
    DataFrame = Figure = Former = ImageModel = ImageClassifier = ImageSet = LanguageModel = Registry = TextSet = Any
    # Kedro makes it an instance as a part of the family's block; of a block and its part it cannot check both.
    SamplingConfig = TextSamplingConfig = Any

__all__ = [
    "DataFrame",
    "Figure",
    "Former",
    "ImageClassifier",
    "ImageModel",
    "ImageSet",
    "LanguageModel",
    "Registry",
    "SamplingConfig",
    "TextSamplingConfig",
    "TextSet",
]

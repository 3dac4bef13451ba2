"""Kedro datasets for what Simulacra keeps: image sets, and objects that are folders."""

from simulacra.datasets.folders import CheckpointFolder, ClassifierDataset, ModelDataset
from simulacra.datasets.image_sets import ImageSetDataset

__all__ = ["CheckpointFolder", "ClassifierDataset", "ImageSetDataset", "ModelDataset"]

"""Kedro datasets for what Simulacra keeps: each is written as a whole, sealed by sha256 and checked when it is read."""

from simulacra.datasets.base import SealedDataset
from simulacra.datasets.checked import CheckedDataset, OptionalDataset
from simulacra.datasets.folders import CheckpointFolder, ClassifierDataset, FormerDataset, ModelDataset
from simulacra.datasets.history import HistoryDataset
from simulacra.datasets.image_sets import ImageSetDataset
from simulacra.datasets.pictures import AnimationDataset, PictureFolder
from simulacra.datasets.registry import RegistryDataset
from simulacra.datasets.schedule import ScheduleDataset
from simulacra.datasets.texts import TextSetDataset

__all__ = [
    "AnimationDataset",
    "CheckedDataset",
    "CheckpointFolder",
    "ClassifierDataset",
    "FormerDataset",
    "HistoryDataset",
    "ImageSetDataset",
    "ModelDataset",
    "OptionalDataset",
    "PictureFolder",
    "RegistryDataset",
    "ScheduleDataset",
    "SealedDataset",
    "TextSetDataset",
]

"""Objects that are folders of safetensors and JSON: models, classifiers, checkpoints."""

import json
import os
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kedro.io import AbstractDataset

from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from simulacra.augmentation.classifiers import ImageClassifier
    from simulacra.models.base import GenerativeModel


class Savable(Protocol):
    """What can write itself into a folder."""

    def save(self, folder: Path) -> None:
        """Write into an existing, empty folder."""


T = TypeVar("T", bound=Savable)


class _FolderDataset(AbstractDataset[T, T]):
    """Writes a folder beside its place and renames it; a subclass reads it.

    Args:
        filepath: the folder.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    @abstractmethod
    def _read(self, folder: Path) -> T:
        """Return the object that lies in the folder."""

    def load(self) -> T:
        """Return the object.

        Raises:
            SimulacraError: where the folder is missing or not whole.
        """
        from safetensors import SafetensorError

        if not self._filepath.is_dir():
            raise SimulacraError(f"{self._filepath} is not there yet; run the stage that makes it first")
        try:
            return self._read(self._filepath)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise SimulacraError(
                f"{self._filepath} is damaged or of another version ({error}); run the stage that makes it again"
            ) from error

    def save(self, data: T) -> None:
        """Write the folder beside its place, then swap it with what was there."""
        scratch, old = (
            self._filepath.with_name(f".{self._filepath.name}.{word}{os.getpid()}") for word in ("new", "old")
        )
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        data.save(scratch)
        if self._filepath.exists():
            self._filepath.rename(old)
        scratch.rename(self._filepath)
        shutil.rmtree(old, ignore_errors=True)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return self._filepath.is_dir()


class ModelDataset(_FolderDataset["GenerativeModel"]):
    """A fitted model of any family; `model.json` says which."""

    def _read(self, folder: Path) -> "GenerativeModel":
        from simulacra.models import family_class

        return family_class(json.loads((folder / "model.json").read_text())["family"]).load(folder)


class ClassifierDataset(_FolderDataset["ImageClassifier"]):
    """A trained image classifier."""

    def _read(self, folder: Path) -> "ImageClassifier":
        from simulacra.augmentation.classifiers import ImageClassifier

        return ImageClassifier.load(folder)


class CheckpointFolder(AbstractDataset[None, Path]):
    """Hands a training the folder in which it keeps its checkpoints; it is there even when it is empty.

    Args:
        filepath: the folder.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder, made if need be."""
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: None) -> None:
        """Refuse: only the training writes here.

        Raises:
            SimulacraError: always.
        """
        raise SimulacraError(f"{self._filepath} holds checkpoints; no node's output can be saved there")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return True

"""Objects that are folders of safetensors and JSON: models, classifiers, checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kedro.io import AbstractDataset

from simulacra.datasets.base import SealedDataset
from simulacra.datasets.checked import ABSENT
from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from simulacra.augmentation.classifiers import ImageClassifier
    from simulacra.models.base import GenerativeModel
    from simulacra.retraining.former import Former


class Savable(Protocol):
    """What can write itself into a folder."""

    def save(self, folder: Path) -> None:
        """Write into an existing, empty folder."""


T = TypeVar("T", bound=Savable)


class _FolderDataset(SealedDataset[T]):
    """A folder that an object writes itself; a subclass reads it."""

    def _write(self, path: Path, data: T) -> None:
        path.mkdir()
        data.save(path)


class ModelDataset(_FolderDataset["GenerativeModel[Any]"]):
    """A fitted model of any family; `model.json` says which."""

    def _read(self, path: Path) -> "GenerativeModel[Any]":
        from simulacra.models import load_model

        return load_model(path)

    def _need(self, data: "GenerativeModel[Any]") -> int:
        return sum(array.nbytes for array in data.tensors().values())


class ClassifierDataset(_FolderDataset["ImageClassifier"]):
    """A trained image classifier."""

    def _read(self, path: Path) -> "ImageClassifier":
        from simulacra.augmentation.classifiers import ImageClassifier

        return ImageClassifier.load(path)

    def _need(self, data: "ImageClassifier") -> int:
        return sum(tensor.nbytes for tensor in data.state_dict().values())


class FormerDataset(_FolderDataset["Former"]):
    """What a training begins from; without a folder it begins anew."""

    def load(self) -> "Former":
        """Return it.

        Raises:
            SimulacraError: where there is a folder that is not whole.
        """
        from simulacra.retraining.former import Former

        return super().load() if self._filepath.exists() else Former()

    def fingerprint(self) -> str | None:
        """Return the sha256 of the folder; a word where there is none, None where it is not whole."""
        return super().fingerprint() if self._filepath.exists() else ABSENT

    def _read(self, path: Path) -> "Former":
        from simulacra.retraining.former import Former

        return Former.load(path)

    def _need(self, data: "Former") -> int:
        return 0 if data.model is None else sum(array.nbytes for array in data.model.tensors().values())


class CheckpointFolder(AbstractDataset[None, Path]):
    """Hands a training the folder in which it keeps its checkpoints; it is there even when it is empty.

    It has no fingerprint: what lies there is a training under way, and no result depends on it.

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

"""What all datasets of files share: saved as a whole, sealed by sha256, and read only where they are whole."""

from abc import abstractmethod
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

from kedro.io import AbstractDataset

from simulacra import files
from simulacra.errors import SimulacraError
from simulacra.incremental import Unchanged

T = TypeVar("T")


class SealedDataset(AbstractDataset[T | Unchanged, T]):
    """A file or folder that `simulacra.files` writes and checks; a subclass says what lies in it.

    Args:
        filepath: where it lies.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    @abstractmethod
    def _read(self, path: Path) -> T:
        """Return what lies in the file or folder."""

    @abstractmethod
    def _write(self, path: Path, data: T) -> None:
        """Write the data to a path at which nothing is yet."""

    def _need(self, data: T) -> int:
        """Return about how many bytes the data will take; 0 where that is not known beforehand, or little."""
        return 0

    def load(self) -> T:
        """Return the data.

        Raises:
            SimulacraError: where the file is missing, not whole, or of another version.
        """
        return files.read(self._filepath, self._understood)

    def save(self, data: T | Unchanged) -> None:
        """Write the data beside its place, then put it there; what is unchanged lies there already.

        Raises:
            SimulacraError: where the disk lacks the space.
        """
        if not isinstance(data, Unchanged):
            files.write(self._filepath, lambda path: self._write(path, data), need=self._need(data))

    def fingerprint(self) -> str | None:
        """Return the sha256 of what lies whole in the place; None where nothing does."""
        return files.sealed(self._filepath)

    def _understood(self, path: Path) -> T:
        from safetensors import SafetensorError

        try:
            return self._read(path)
        except (SimulacraError, SafetensorError, OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
            reason = shorten(str(error), 200, placeholder=" …")
            raise SimulacraError(
                f"{self._filepath} was written by another version of the project, or is not what its name says "
                f"({reason}); run the stage that makes it again with --params force=true"
            ) from error

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return self.fingerprint() is not None

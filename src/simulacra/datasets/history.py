"""Records that add up: saving one leaves those before it where they are."""

from pathlib import Path
from typing import Any

from simulacra import files
from simulacra.datasets.base import SealedDataset
from simulacra.datasets.checked import ABSENT, not_finite
from simulacra.errors import SimulacraError

KEPT = 1000
"""Records that are kept; the oldest leave first."""


class HistoryDataset(SealedDataset[Any]):
    """A JSON file of records, oldest first; without a file there are none.

    Args:
        filepath: where the file lies.
        key: entry of a record by which a later one takes an earlier one's place, as of a retraining that was begun
            again; a record in which it is not set, or null, stands for itself.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, filepath: str, key: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath, metadata)
        self._key = key

    def load(self) -> list[Any]:
        """Return all records.

        Raises:
            SimulacraError: where there is a file that is not whole.
        """
        if not self._filepath.exists():
            return []
        try:
            return files.read(self._filepath, self._understood)
        except SimulacraError as error:
            fault = str(error).rsplit("; run the stage", 1)[0]
            raise SimulacraError(
                f"{fault}; no stage makes its records again: put back a copy of it, or move it away to begin a new one"
            ) from error

    def fingerprint(self) -> str | None:
        """Return the sha256 of the file; a word where there is none, None where it is not whole."""
        return super().fingerprint() if self._filepath.exists() else ABSENT

    def _exists(self) -> bool:
        # A file that is not whole is told by `load`, which knows that no stage makes it again.
        return True

    def _read(self, path: Path) -> list[Any]:
        import json

        found = json.loads(path.read_text())
        if not isinstance(found, list):
            raise ValueError("it is no list")
        return found

    def _write(self, path: Path, data: Any) -> None:
        import json

        if odd := next(not_finite(data), None):
            raise SimulacraError(f"{self._filepath} cannot hold {odd}, only finite numbers: look for what made it so")
        path.write_text(json.dumps([*self._others(data), data][-KEPT:], indent=1))

    def _others(self, data: Any) -> list[Any]:
        """Return the records that stay beside a new one."""
        name = self._key and data.get(self._key)
        return [record for record in self.load() if not name or record.get(self._key) != name]

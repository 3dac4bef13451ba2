"""Records that add up: saving one leaves those before it where they are."""

from pathlib import Path
from typing import Any

from simulacra.datasets.base import SealedDataset
from simulacra.datasets.checked import ABSENT, not_finite
from simulacra.errors import SimulacraError

KEPT = 1000
"""Records that are kept; the oldest leave first."""


class HistoryDataset(SealedDataset[Any]):
    """A JSON file of records, oldest first; without a file there are none.

    Args:
        filepath: where the file lies.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def load(self) -> list[Any]:
        """Return all records.

        Raises:
            SimulacraError: where there is a file that is not whole.
        """
        return super().load() if self._filepath.exists() else []

    def fingerprint(self) -> str | None:
        """Return the sha256 of the file; a word where there is none, None where it is not whole."""
        return super().fingerprint() if self._filepath.exists() else ABSENT

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
        path.write_text(json.dumps([*self.load(), data][-KEPT:], indent=1))

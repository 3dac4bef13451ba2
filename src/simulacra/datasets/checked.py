"""Any dataset of one file, made whole or not at all."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from simulacra.datasets.base import SealedDataset
from simulacra.errors import SimulacraError

ABSENT = "absent"
"""Stands for the sha256 of a file that is not there, and need not be."""


class CheckedDataset(SealedDataset[Any]):
    """Wraps a dataset that keeps one file, as those of kedro-datasets do, so that its file is sealed and checked.

    Args:
        filepath: where the file lies.
        dataset: type of the wrapped dataset, such as `pandas.CSVDataset`, or a mapping of `type` and its arguments.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, filepath: str, dataset: str | dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath, metadata)
        self._config = {"type": dataset} if isinstance(dataset, str) else dataset
        self._dataset = self._at(self._filepath)
        if hasattr(self._dataset, "preview"):
            self.preview = self._dataset.preview  # kedro-viz looks for it, and for its annotation

    def _at(self, path: Path) -> AbstractDataset[Any, Any]:
        """Return the wrapped dataset for a file at the given path."""
        return AbstractDataset.from_config(type(self).__name__, self._config | {"filepath": str(path)})

    def _read(self, path: Path) -> Any:
        try:
            return self._dataset.load()
        except DatasetError as error:
            if error.__cause__ is None:  # it says itself what is wrong, such as that figures cannot be loaded
                raise
            raise ValueError(str(error.__cause__)) from error

    def _write(self, path: Path, data: Any) -> None:
        if odd := next(not_finite(data), None):
            raise SimulacraError(f"{self._filepath} cannot hold {odd}, only finite numbers: look for what made it so")
        self._at(path).save(data)

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | {"dataset": self._config["type"]}


class OptionalDataset(CheckedDataset):
    """The same, of a file that need not be there: what reads it gets None then, and runs again once it is there."""

    def load(self) -> Any:
        """Return the data, None where there is no file.

        Raises:
            SimulacraError: where there is one that is not whole, or of another version.
        """
        return super().load() if self._filepath.exists() else None

    def fingerprint(self) -> str | None:
        """Return the sha256 of what lies whole in the place; a word where nothing does, None where what does is not."""
        return super().fingerprint() if self._filepath.exists() else ABSENT


def not_finite(data: Any, key: str = "") -> Iterator[str]:
    """Yield the keys of a record's numbers that are not finite: JSON has none, and most readers of it would fail."""
    if isinstance(data, Mapping):
        for name, entry in data.items():
            yield from not_finite(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(data, list | tuple):
        for number, entry in enumerate(data):
            yield from not_finite(entry, f"{key}[{number}]")
    elif isinstance(data, float) and not math.isfinite(data):
        yield f"{key} = {data}"

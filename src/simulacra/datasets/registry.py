"""The registry of a dataset's models, as a node reads it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from kedro.io import AbstractDataset

from simulacra.errors import SimulacraError
from simulacra.tracking.config import TRACKING, TrackingConfig

if TYPE_CHECKING:
    from simulacra.retraining.registry import Registry


class RegistryDataset(AbstractDataset[Never, Any]):
    """Gives a handle on the registry that mlflow.yml names; nodes change it by that, and save nothing here.

    Args:
        dataset: whose models these are.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, dataset: str, metadata: dict[str, Any] | None = None) -> None:
        self._name = dataset
        self.metadata = metadata

    def load(self) -> "Registry":
        """Return the handle.

        Raises:
            SimulacraError: where the store cannot be opened, or no run told which it is.
        """
        from simulacra.retraining.registry import Registry

        if TRACKING not in os.environ:
            raise SimulacraError("the registry is known within `kedro run` only")
        project, settings = os.environ[TRACKING].split("\n", 1)
        return Registry(TrackingConfig.model_validate_json(settings), Path(project), self._name)

    def save(self, data: Never) -> None:
        """Refuse: a registry is not saved."""
        raise SimulacraError(f"the registry of {self._name} is not saved; models are registered through it")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"dataset": self._name}

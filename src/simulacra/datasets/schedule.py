"""What the schedule has done and has before it, as a node reads it."""

from datetime import UTC, datetime
from typing import Any, Never

from kedro.config import MissingConfigException
from kedro.io import AbstractDataset

from simulacra.errors import SimulacraError
from simulacra.state import state_folder


class ScheduleDataset(AbstractDataset[Never, Any]):
    """Gives what `simulacra.retraining.overview` tells of one dataset, as it is when it is asked for.

    Args:
        dataset: its name.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, dataset: str, metadata: dict[str, Any] | None = None) -> None:
        self._name = dataset
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """Return the overview, with neither plan nor ticks where nothing was ever scheduled.

        Raises:
            SimulacraError: where schedule.yml is wrong, or the ledger cannot be read.
        """
        from simulacra.retraining.overview import overview
        from simulacra.retraining.schedule_config import ScheduleConfig, load_schedule

        try:
            config = load_schedule()
        except MissingConfigException:  # a folder of configuration from elsewhere need not have one
            config = ScheduleConfig()
        return overview(config, state_folder(), datetime.now(UTC), self._name)

    def save(self, data: Never) -> None:
        """Refuse: the scheduler keeps its own books."""
        raise SimulacraError(f"the schedule of {self._name} is not saved; the scheduler keeps it")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"dataset": self._name}

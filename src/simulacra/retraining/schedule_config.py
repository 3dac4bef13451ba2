"""What schedule.yml says: which datasets are retrained when, and what becomes of a tick that fails or was missed."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from simulacra.errors import SimulacraError
from simulacra.experiments import load_experiments, read_config, unknown

if TYPE_CHECKING:
    from simulacra.retraining.cron import Crontab


class DatasetSchedule(BaseModel):
    """One dataset's entry.

    Example:
        >>> DatasetSchedule(cron="0 3 * * 1", timezone="Europe/Berlin").retries
        2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str | None = Field(None, description="minute, hour, day, month, weekday; null: `schedule run-now` only")
    timezone: str | None = Field(None, description="name such as Europe/Berlin; null for this machine's")
    jitter: float = Field(0, ge=0, le=86_400, description="a tick begins up to so many seconds late, by chance")
    timeout: float = Field(720, gt=0, description="minutes that one process of a tick may take")
    retries: int = Field(2, ge=0, le=20, description="how often what failed or was killed is begun again")
    back_off: float = Field(30, ge=0, description="seconds before the first of these; doubled each time, ± a half")
    misfire: Literal["run", "skip"] = Field("run", description="whether what was missed is made up for, by one tick")
    grace: float = Field(300, ge=0, description="seconds that a tick may be late without having been missed")

    @field_validator("cron")
    @classmethod
    def _is_due_some_day(cls, line: str | None) -> str | None:
        from simulacra.retraining.cron import Crontab

        if line is not None and Crontab(line, ZoneInfo("UTC")).after(datetime.now(UTC)) is None:
            raise ValueError("is never due: no year has such a day")
        return line

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str | None) -> str | None:
        try:
            return name and ZoneInfo(name).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("there is no such time zone; it has a name such as Europe/Berlin or UTC") from error

    @property
    def zone(self) -> ZoneInfo:
        """The time zone, the machine's own where none is named."""
        if self.timezone:
            return ZoneInfo(self.timezone)
        from tzlocal import get_localzone

        return get_localzone()

    @property
    def rule(self) -> str:
        """What the times hang on: where it changes, none was missed before."""
        return f"{self.cron} {self.zone}"

    def trigger(self) -> "Crontab | None":
        """Return the times at which it is due; None where it is not scheduled."""
        from simulacra.retraining.cron import Crontab

        return Crontab(self.cron, self.zone) if self.cron is not None else None


class ScheduleConfig(BaseModel):
    """The content of schedule.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: dict[str, DatasetSchedule] = Field(default_factory=dict, description="dataset -> its schedule")
    concurrency: int = Field(1, ge=1, le=64, description="processes that work at once, over all datasets")
    keep_days: int = Field(90, ge=1, le=3650, description="days that ticks and their logs are kept")
    patience: float = Field(60, ge=0, description="seconds that a process has to end once it is told to")

    @classmethod
    def parse(cls, raw: Mapping[str, Any], known: Iterable[str]) -> "ScheduleConfig":
        """Return the checked content.

        Args:
            raw: as it was read.
            known: the datasets that there are.

        Raises:
            SimulacraError: for an unknown key or dataset, a bad value, cron line or time zone; names it.
        """
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            raise SimulacraError("\n".join(f"schedule.yml: {_told(one)}" for one in error.errors())) from error
        known = list(known)
        for name in config.datasets:
            if name not in known:
                raise SimulacraError(f"schedule.yml: datasets: {unknown('dataset', name, known)}")
        return config

    def of(self, dataset: str) -> DatasetSchedule:
        """Return a dataset's entry, with nothing but defaults where it has none."""
        return self.datasets.get(dataset) or DatasetSchedule()

    @property
    def scheduled(self) -> dict[str, DatasetSchedule]:
        """The datasets that are due at times, and not only by hand."""
        return {name: entry for name, entry in self.datasets.items() if entry.cron is not None}


def load_schedule() -> ScheduleConfig:
    """Read schedule.yml of conf/base and of the environment in use (KEDRO_ENV, else conf/local).

    Raises:
        SimulacraError: as `ScheduleConfig.parse` does.
    """
    return ScheduleConfig.parse(read_config("schedule"), load_experiments())


def _told(error: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as "key: what is wrong (got value)"."""
    said = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        block = DatasetSchedule if error["loc"][0] == "datasets" else ScheduleConfig
        said = f"unknown key; there are {', '.join(block.model_fields)}"
    return f"{'.'.join(map(str, error['loc']))}: {said} (got {error['input']!r})"

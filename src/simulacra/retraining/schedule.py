"""The scheduler: APScheduler says when, the ledger what has been done, and what was missed is made up for or left."""

import logging
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import uniform
from types import FrameType
from typing import NamedTuple

from simulacra.errors import SimulacraError
from simulacra.locks import Locks
from simulacra.retraining.ledger import Tick
from simulacra.retraining.processes import Owner
from simulacra.retraining.schedule_config import DatasetSchedule
from simulacra.retraining.tick import Ending, Stopped, Workshop
from simulacra.tracking.joining import forget_joined

logger = logging.getLogger(__name__)

BUSY_WAIT = 10.0
"""Seconds between two looks at a dataset that somebody retrains by hand."""

LOOK = 60
"""Seconds between two looks at the clock: a machine that slept, or was set to another time, lets timers come late."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Plan(NamedTuple):
    """What is to be done about what was due: one tick to be run, if any, and the others, with the reason."""

    run: datetime | None
    missed: tuple[datetime, ...]
    why: str


def plan(due: Sequence[datetime], now: datetime, entry: DatasetSchedule) -> Plan:
    """Return what is to be done about all that was due and not begun, up to now.

    However many they are, one retraining makes up for them all, since each looks at the data as they are.

    Args:
        due: due times, in any order.
        now: the time.
        entry: the dataset's policy.

    Example:
        >>> hours = [datetime(2026, 11, 2, hour, tzinfo=UTC) for hour in (1, 2, 3)]
        >>> plan(hours, datetime(2026, 11, 2, 9, tzinfo=UTC), DatasetSchedule(misfire="skip")).run is None
        True
    """
    if not due:
        return Plan(None, (), "")
    *earlier, last = sorted(due)
    late = (now - last).total_seconds() > entry.grace
    if late and entry.misfire == "skip":
        return Plan(None, (*earlier, last), "nothing ran when it was due, or the tick before it was still at work")
    return Plan(last, tuple(earlier), f"made up for by the tick of {last:%Y-%m-%d %H:%M} UTC")


class Scheduler:
    """Works off the ticks of a project.

    Args:
        workshop: where, by what commands, and by which schedule.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._shop, self._ledger, self._config = workshop, workshop.ledger, workshop.config
        self._me = Owner.me()

    def serve(self) -> None:
        """Work until told to stop, by SIGTERM or Ctrl-C.

        Raises:
            SimulacraError: where another scheduler works for this project, or nothing is scheduled.
        """
        if not self._config.scheduled:
            raise SimulacraError("schedule.yml: no dataset has a cron line; conf/README.md has an example")
        with self._alone("schedule"), handled(self._shop):
            self._ledger.enter(self._me, datetime.now(UTC))
            try:
                self._serve()
            finally:
                self._ledger.leave(self._me)

    def run_now(self, dataset: str) -> tuple[Tick, Ending]:
        """Do one tick at once: the one that a killed process left behind, or else a new one.

        Raises:
            SimulacraError: where one is at work.
        """
        with self._alone(f"tick.{dataset}"), handled(self._shop):
            now = datetime.now(UTC)
            tick = self._left_behind(dataset, now) or self._ledger.begin(dataset, self._me, now)
            if tick is None:
                raise SimulacraError(f"{dataset} is being retrained by another process: wait for it or stop it")
            try:
                return tick, self._shop.work_off(tick)
            except Stopped:
                self._ledger.finish(tick, "killed", "stopped by hand", datetime.now(UTC))
                return tick, Ending("killed", "stopped by hand")

    def catch_up(self, dataset: str, now: datetime) -> None:
        """Bring the ledger up to date with all that has been due of a dataset."""
        entry = self._config.of(dataset)
        if (trigger := entry.trigger()) is None:
            return
        since = max(self._ledger.since(dataset), now - timedelta(days=self._config.keep_days))
        due = {*self._ledger.waiting(dataset), *trigger.between(since, now)}
        if due:
            todo = plan([*due], now, entry)
            self._ledger.settle(dataset, todo.run, todo.missed, now, todo.why)

    def work(self, dataset: str) -> None:
        """Work off all that is due of a dataset; what becomes due meanwhile, too."""
        try:
            while not self._shop.stop.is_set() and self._work_once(dataset):
                pass
        except Stopped:
            pass
        except SimulacraError as error:
            logger.error("%s: %s", dataset, error)

    def _serve(self) -> None:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduled, now = self._config.scheduled, datetime.now(UTC)
        self._ledger.keep({name: entry.rule for name, entry in scheduled.items()}, now)
        self._prune(now)
        names = sorted({*scheduled, *self._ledger.unfinished()})
        clock = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(len(names) + 1)},
            # What a late or an overlong job leaves out, the next one finds in the ledger.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        for name in names:
            clock.add_job(self.work, self._config.of(name).trigger() or "date", [name], id=name, next_run_time=now)
        clock.add_job(clock.wakeup, "interval", seconds=LOOK)
        clock.start()
        for name, entry in sorted(scheduled.items()):
            trigger = entry.trigger()
            due = trigger.after(now) if trigger else None
            logger.info("%s: %s (%s), next %s", name, entry.cron, entry.zone, due and due.astimezone(entry.zone))
        try:
            self._shop.stop.wait()
        finally:
            self._shop.stop.set()
            clock.shutdown(wait=True)

    def _work_once(self, dataset: str) -> bool:
        """Work off one tick; return whether there may be another."""
        self.catch_up(dataset, datetime.now(UTC))
        if dataset not in self._ledger.unfinished():
            late = uniform(0, self._config.of(dataset).jitter)  # noqa: S311  # no secret
            if not self._ledger.waiting(dataset) or self._shop.stop.wait(late):
                return False
        try:
            with self._alone(f"tick.{dataset}"):
                now = datetime.now(UTC)
                tick = self._left_behind(dataset, now) or self._ledger.claim(dataset, self._me, now)
                if tick is None:
                    return False
                self._work_off(tick)
        except AtWork as error:
            logger.debug("%s", error)
            return not self._shop.stop.wait(BUSY_WAIT)
        self._prune(datetime.now(UTC))
        return True

    def _work_off(self, tick: Tick) -> None:
        try:
            self._shop.work_off(tick)
        except Stopped:
            if tick.by_hand or tick.dataset not in self._config.scheduled:
                self._ledger.finish(tick, "killed", "the scheduler was told to stop", datetime.now(UTC))
            else:
                self._ledger.put_back(tick, "interrupted; the next start of the scheduler goes on with it")
            raise

    def _left_behind(self, dataset: str, now: datetime) -> Tick | None:
        """Return the tick whose process was killed, now this process's; it is begun again once at least."""
        most = max(1, self._config.of(dataset).retries) + 1
        return self._ledger.take_up(dataset, self._me, now, most)

    def _prune(self, now: datetime) -> None:
        for key in self._ledger.prune(now - timedelta(days=self._config.keep_days)):
            shutil.rmtree(self._shop.logs(key), ignore_errors=True)
            forget_joined(self._shop.state / "tracking", key)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Hold a lock.

        Raises:
            AtWork: where another process holds it; names the process.
        """
        locks = Locks()
        try:
            locks.take(self._shop.state / "schedule" / "locks", [name])
        except SimulacraError as error:
            raise AtWork(str(error)) from error
        try:
            yield
        finally:
            locks.free()


class AtWork(SimulacraError):
    """Another process does that already."""


@contextmanager
def handled(shop: Workshop) -> Iterator[None]:
    """Stop a workshop by SIGTERM or Ctrl-C; what is at work is not waited for where it is said twice."""

    def ask(signum: int, frame: FrameType | None) -> None:
        # Not from here: this thread may be just inside the event, which lets nobody in twice.
        threading.Thread(target=(shop.hurry if shop.stop.is_set() else shop.stop).set).start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former: Mapping[signal.Signals, object] = {signum: signal.signal(signum, ask) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

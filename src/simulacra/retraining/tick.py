"""Works off one tick: a process a step, with a time limit, tries again, and all of them below one run of MLflow."""

import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simulacra.errors import SimulacraError
from simulacra.retraining import processes
from simulacra.retraining.ledger import Ledger, Tick, ledger_place, log_folder
from simulacra.retraining.schedule_config import DatasetSchedule, ScheduleConfig
from simulacra.retraining.steps import Commands, Decision, Step, decision_place, gate_place, read_decision, read_winner
from simulacra.tracking.joining import PARENT_RUN, joined_run
from simulacra.tracking.journal import PLACE

if TYPE_CHECKING:
    from subprocess import Popen

logger = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks at a process."""

LONGEST_PAUSE = 3600.0
"""Seconds that lie between two tries at most."""

SEVERITY = ("done", "killed", "timed out", "failed")
"""How bad an ending is, compared with others of the same tick."""


class Ending(NamedTuple):
    """How a step or a tick ended: one of the ledger's statuses, and in words."""

    status: str
    outcome: str


class Stopped(Exception):
    """The scheduler is told to stop; the tick goes on with the step that it came to, when it is taken again."""


class Workshop:
    """Where ticks are worked off.

    Args:
        project: folder that commands are begun in.
        data_root: folder of data and results.
        config: content of schedule.yml.
        commands: gives the commands of a tick.
    """

    def __init__(self, project: Path, data_root: Path, config: ScheduleConfig, commands: Commands) -> None:
        self.project, self.data_root, self.config, self.commands = project, data_root, config, commands
        self.state = data_root / ".simulacra"
        self.ledger = Ledger(ledger_place(self.state))
        self.stop = threading.Event()
        self.hurry = threading.Event()
        self._slots = threading.BoundedSemaphore(config.concurrency)

    def work_off(self, tick: Tick) -> Ending:
        """Do what is left of a tick that this process has taken, and note how it ended.

        Raises:
            Stopped: where the workshop is told to stop; what was at work is ended, and the tick still this process's.
        """
        logger.info("%s: begins, attempt %d", tick.key, tick.attempts)
        if tick.attempts > 1 and (strays := processes.end(tick.key, self.config.patience, self.hurry)):
            logger.warning("%s: ended %d processes that its killed scheduler had left behind", tick.key, strays)
        try:
            ending = self._steps(tick)
        except Stopped:
            raise
        except Exception as error:
            # A tick that nobody ends would keep the next one from being begun.
            mistake = isinstance(error, SimulacraError)
            ending = Ending("failed", str(error) if mistake else f"{type(error).__name__}: {error}")
        parent = joined_run(self.state / "tracking", tick.key)
        self.ledger.finish(tick, *ending, _now(), parent)
        logger.log(logging.INFO if ending.status == "done" else logging.ERROR, "%s: %s: %s", tick.key, *ending)
        self._tell(tick)
        return ending

    def logs(self, key: str) -> Path:
        """Return the folder of what a tick's processes print."""
        return log_folder(self.state, key)

    def _tell(self, tick: Tick) -> None:
        """Have the page written that says how the tick ended; it ended so, whatever becomes of the page."""
        page = self.commands(tick.dataset, ()).page
        if page is None:
            return
        try:
            with self._slot():
                ending = self._once(tick, page, self.config.of(tick.dataset))
        except Stopped:
            return
        if ending.status != "done":
            logger.warning("%s: the page of operations does not tell of it: %s", tick.key, ending.outcome)

    def _steps(self, tick: Tick) -> Ending:
        first = self.commands(tick.dataset, ()).watch
        if (ending := self._step(tick, first)).status != "done":
            return _of_one(first, ending)
        decision = read_decision(decision_place(self.data_root, tick.dataset))
        if not decision.retrain:
            return Ending("done", f"no need: {'; '.join(decision.reasons) or 'no reason is given'}")
        _, shared, families, last, _ = self.commands(tick.dataset, decision.families)
        if (ending := self._step(tick, shared)).status != "done":
            return _of_one(shared, ending)
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            endings = list(pool.map(lambda step: self._step(tick, step), families))
        if families and all(ending.status != "done" for ending in endings):
            return _together(families, endings)
        endings.append(self._step(tick, last))
        bad = _together((*families, last), endings)
        return bad if bad.status != "done" else Ending("done", self._retrained(tick, decision))

    def _retrained(self, tick: Tick, decision: Decision) -> str:
        """Return what was trained, why, and who is champion now."""
        trained = f"retrained {', '.join(decision.families)}" if decision.families else "judged anew"
        winner = read_winner(gate_place(self.data_root, tick.dataset), tick.key)
        return f"{trained}: {'; '.join([*decision.reasons, *([winner] if winner else [])])}"

    def _step(self, tick: Tick, step: Step) -> Ending:
        """Run a step, unless it was done before the tick was taken up, and again where it fails."""
        known = self.ledger.steps(tick).get(step.name, {})
        if known.get("status") == "done":
            return Ending("done", known["outcome"])
        entry = self.config.of(tick.dataset)
        ending = Ending("failed", "")
        for attempt in range(entry.retries + 1):
            if attempt:
                wait = pause(attempt, entry.back_off, random.uniform(0.5, 1.5))  # noqa: S311  # no secret
                logger.warning("%s: %s: %s; again in %.0f s", tick.key, step.name, ending.outcome, wait)
                self._wait(wait)
            with self._slot():
                self.ledger.step_began(tick, step.name, _now())
                ending = self._once(tick, step, entry)
                self.ledger.step_ended(tick, step.name, *ending, _now())
            if ending.status != "failed":
                break
        return ending

    def _once(self, tick: Tick, step: Step, entry: DatasetSchedule) -> Ending:
        mark = f"{tick.key}:{step.name}"
        log = self.logs(tick.key) / f"{step.name.replace(' ', '_')}.log"
        environment = {name: value for name, value in os.environ.items() if name not in (PLACE, "SIMULACRA_STATE")}
        environment |= {PARENT_RUN: tick.key, processes.MARK: mark}
        logger.info("%s: %s", tick.key, step.name)
        try:
            process = processes.begin(step.command, self.project, environment, log)
        except OSError as error:
            return Ending("failed", f"could not be started: {error}")
        in_time = self._watch(process, 60 * entry.timeout)
        if in_time and process.returncode == 0:
            return Ending("done", "")
        stopped = process.returncode is None and in_time
        processes.end(mark, self.config.patience if process.returncode is None else 0, self.hurry)
        process.kill()
        process.wait()
        if stopped:
            self.ledger.step_ended(tick, step.name, "killed", "the scheduler was told to stop", _now())
            raise Stopped
        if not in_time:
            return Ending("timed out", f"took longer than {entry.timeout:g} minutes")
        return Ending("failed", f"{_code(process.returncode)}: {last_line(log)}")

    def _watch(self, process: "Popen[bytes]", seconds: float) -> bool:
        """Wait for a process; return False where it takes too long, and True where it has ended, or is to be ended."""
        deadline = time.monotonic() + seconds
        while process.poll() is None:
            if self.stop.wait(POLL):
                return True
            if time.monotonic() > deadline:
                return False
        return True

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Wait until one more process may work."""
        while not self._slots.acquire(timeout=POLL):
            self._wait(0)
        try:
            self._wait(0)
            yield
        finally:
            self._slots.release()

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped


def pause(attempt: int, back_off: float, chance: float) -> float:
    """Return the seconds before a further try: doubled with each, varied so that what failed together parts.

    Args:
        attempt: how many tries there were.
        back_off: seconds before the second try.
        chance: factor by which it is varied.

    Example:
        >>> [pause(attempt, 30, 1.0) for attempt in (1, 2, 3, 12)]
        [30.0, 60.0, 120.0, 3600.0]
    """
    return min(float(back_off * 2 ** (attempt - 1) * chance), LONGEST_PAUSE)


def last_line(log: Path, most: int = 4096) -> str:
    """Return the beginning of the last error told, or of the last line that is not blank, among a file's last bytes."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most))
        lines = file.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    # What an error asks for stands in a line after it, and says little alone.
    told = max((number for number, line in enumerate(said) if line.startswith("Error: ")), default=-1)
    return " ".join(said[told:])[:300] if said else "it printed nothing"


def _code(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _of_one(step: Step, ending: Ending) -> Ending:
    return Ending(ending.status, f"{step.name}: {ending.outcome}")


def _together(steps: Sequence[Step], endings: Sequence[Ending]) -> Ending:
    """Return the worst of several endings, with words for each that is not well."""
    bad = [f"{step.name}: {each.outcome}" for step, each in zip(steps, endings, strict=True) if each.status != "done"]
    well = [step.name for step, each in zip(steps, endings, strict=True) if each.status == "done"]
    worst = max((each.status for each in endings), key=SEVERITY.index, default="done")
    return Ending(worst, "; ".join(bad + ([f"done: {', '.join(well)}"] if well else [])))


def _now() -> datetime:
    return datetime.now(UTC)

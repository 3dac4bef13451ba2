"""What was due when and what became of it, in a small SQLite file that outlives every process.

A tick is one due time of one dataset. Whoever works on it has claimed it in one transaction, so it is never done twice;
one whose process was killed is found by that process's being gone, and taken up by one other.
"""

import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from simulacra.errors import SimulacraError
from simulacra.retraining.processes import Owner

STATUSES = ("due", "running", "done", "failed", "timed out", "killed", "missed")

LOCK_WAIT = 60.0
"""Seconds that a transaction waits for another process's."""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS ticks (
    id INTEGER PRIMARY KEY,
    dataset TEXT NOT NULL,
    due_at TEXT NOT NULL,
    by_hand INTEGER NOT NULL DEFAULT 0,
    key TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN {STATUSES}),
    outcome TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    began_at TEXT,
    ended_at TEXT,
    host TEXT,
    pid INTEGER,
    started REAL,
    parent_run TEXT,
    UNIQUE (dataset, due_at)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_at_work ON ticks (dataset) WHERE status = 'running';
CREATE TABLE IF NOT EXISTS steps (
    tick INTEGER NOT NULL REFERENCES ticks (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN {STATUSES}),
    outcome TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    began_at TEXT,
    ended_at TEXT,
    PRIMARY KEY (tick, name)
);
CREATE TABLE IF NOT EXISTS schedules (dataset TEXT PRIMARY KEY, rule TEXT NOT NULL, since TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scheduler (
    host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, since TEXT NOT NULL
);
"""


def ledger_place(state: Path) -> Path:
    """Return where the ledger lies among what a project knows of its runs."""
    return state / "schedule" / "ledger.db"


def log_folder(state: Path, key: str) -> Path:
    """Return the folder of what a tick's processes print."""
    return state / "schedule" / "logs" / re.sub(r"[^\w-]+", "_", key)


class Tick(NamedTuple):
    """One row of the ledger.

    Args:
        id: its number.
        dataset: what is retrained.
        due_at: when it was due, in UTC.
        by_hand: whether somebody asked for it, and no schedule.
        key: what no other tick of any ledger has; dataset and time are in it.
        status: one of STATUSES.
        outcome: the same in words.
        attempts: how many processes have worked on it.
        began_at: when the first of them began.
        ended_at: when it was over.
        owner: the process that works on it, or did.
        parent_run: MLflow's id of the run that all its runs belong to.
    """

    id: int
    dataset: str
    due_at: datetime
    by_hand: bool
    key: str
    status: str
    outcome: str
    attempts: int
    began_at: datetime | None
    ended_at: datetime | None
    owner: Owner | None
    parent_run: str | None


class Ledger:
    """The ticks of one data root. Every method is one transaction; threads and processes may share the file.

    Args:
        place: the SQLite file; made if need be.

    Raises:
        SimulacraError: here and in every method, where the file cannot be used.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as database:
            for statement in SCHEMA.split(";"):
                database.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all or nothing of the block, and let nobody else write meanwhile."""
        try:
            with closing(sqlite3.connect(self._place, timeout=LOCK_WAIT, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                database.execute("PRAGMA foreign_keys = ON")
                database.execute("BEGIN IMMEDIATE")
                with database:
                    yield database
        except sqlite3.Error as error:
            raise SimulacraError(
                f"{self._place} cannot be used: {error}; where it is damaged, move it away to begin a new one"
            ) from error

    def keep(self, rules: Mapping[str, str], now: datetime) -> None:
        """Note what is scheduled: what has a new rule has missed nothing, and what has none any more is not waited for.

        Args:
            rules: dataset -> what its times hang on.
            now: from when on new rules count.
        """
        with self._transaction() as database:
            kept = dict(database.execute("SELECT dataset, rule FROM schedules").fetchall())
            for dataset in kept.keys() - rules.keys():
                database.execute("DELETE FROM schedules WHERE dataset = ?", (dataset,))
                self._miss(database, "dataset = ? AND status = 'due'", (dataset,), "no longer scheduled", now)
            for dataset, rule in rules.items():
                if kept.get(dataset) != rule:
                    database.execute("REPLACE INTO schedules VALUES (?, ?, ?)", (dataset, rule, _text(now)))

    def since(self, dataset: str) -> datetime:
        """Return the time up to which all that was due of a scheduled dataset is in the ledger."""
        with self._transaction() as database:
            row = database.execute("SELECT since FROM schedules WHERE dataset = ?", (dataset,)).fetchone()
        return datetime.fromisoformat(row["since"])

    def rules(self) -> dict[str, tuple[str, datetime]]:
        """Return of each scheduled dataset what its times hang on, and `since`."""
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM schedules").fetchall()
        return {row["dataset"]: (row["rule"], datetime.fromisoformat(row["since"])) for row in rows}

    def waiting(self, dataset: str) -> list[datetime]:
        """Return the due times that nobody has begun with, or that were put back."""
        with self._transaction() as database:
            rows = database.execute(f"{SELECT} WHERE dataset = ? AND status = 'due' ORDER BY due_at", (dataset,))
            return [_tick(row).due_at for row in rows]

    def settle(self, dataset: str, run: datetime | None, missed: Sequence[datetime], until: datetime, why: str) -> None:
        """Note what was due up to a time: at most one tick to be run, and the others as missed.

        Args:
            dataset: what is retrained.
            run: due time of the one to be run, if any.
            missed: due times of the others; those that waited are missed from now on.
            until: the time.
            why: outcome of those that were missed.
        """
        with self._transaction() as database:
            for due_at in missed:
                self._insert(database, dataset, due_at, "due")
                self._miss(
                    database, "dataset = ? AND due_at = ? AND status = 'due'", (dataset, _text(due_at)), why, until
                )
            if run is not None:
                self._insert(database, dataset, run, "due")
            database.execute("UPDATE schedules SET since = ? WHERE dataset = ?", (_text(until), dataset))

    def claim(self, dataset: str, owner: Owner, now: datetime) -> Tick | None:
        """Take the tick of a dataset that is due; None where there is none, or one is at work."""
        with self._transaction() as database:
            if _at_work(database, dataset):
                return None
            row = database.execute(
                f"{SELECT} WHERE dataset = ? AND status = 'due' ORDER BY due_at LIMIT 1", (dataset,)
            ).fetchone()
            return None if row is None else self._own(database, row["id"], owner, now)

    def begin(self, dataset: str, owner: Owner, now: datetime) -> Tick | None:
        """Make and take a tick that somebody asks for now; None where one is at work."""
        with self._transaction() as database:
            if _at_work(database, dataset):
                return None
            number = self._insert(database, dataset, now, "due", by_hand=True)
            return self._own(database, number, owner, now)

    def take_up(self, dataset: str, owner: Owner, now: datetime, most: int) -> Tick | None:
        """Take the tick of a dataset whose process is gone; None where there is none.

        Whoever asks holds the dataset's lock, so that a process on another machine is gone too, and what the asker had
        itself it has given up.

        Args:
            dataset: what is retrained.
            owner: who takes it.
            now: when.
            most: processes that may work on one tick; one that killed as many is given up.
        """
        with self._transaction() as database:
            tick = _at_work(database, dataset)
            if tick is None or (tick.owner and tick.owner != owner and tick.owner.process()):
                return None
            if tick.attempts >= most:
                outcome = f"its process was killed {tick.attempts} time{'s' if tick.attempts > 1 else ''}"
                self._end(database, tick, "killed", outcome, now)
                return None
            return self._own(database, tick.id, owner, now)

    def unfinished(self) -> set[str]:
        """Return the datasets with a tick at work, or that was at work when its process was killed."""
        with self._transaction() as database:
            return {row["dataset"] for row in database.execute("SELECT dataset FROM ticks WHERE status = 'running'")}

    def finish(self, tick: Tick, status: str, outcome: str, now: datetime, parent_run: str | None = None) -> None:
        """Note how a tick ended that this process had taken; a tick that another one has by now stays as it is."""
        with self._transaction() as database:
            self._end(database, tick, status, outcome, now, parent_run)

    def put_back(self, tick: Tick, outcome: str) -> None:
        """Let a tick wait again, and this time not count as an attempt."""
        with self._transaction() as database:
            database.execute(
                f"UPDATE ticks SET status = 'due', outcome = ?, attempts = attempts - 1 WHERE {OWNED}",  # noqa: S608
                (outcome, *_owned(tick)),
            )

    def step_began(self, tick: Tick, name: str, now: datetime) -> None:
        """Note that a step of a tick was begun, once more maybe."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO steps (tick, name, status, attempts, began_at) VALUES (?, ?, 'running', 1, ?) "
                "ON CONFLICT DO UPDATE SET status = 'running', attempts = attempts + 1, ended_at = NULL",
                (tick.id, name, _text(now)),
            )

    def step_ended(self, tick: Tick, name: str, status: str, outcome: str, now: datetime) -> None:
        """Note how a step ended."""
        with self._transaction() as database:
            database.execute(
                "UPDATE steps SET status = ?, outcome = ?, ended_at = ? WHERE tick = ? AND name = ?",
                (status, outcome, _text(now), tick.id, name),
            )

    def steps(self, tick: Tick) -> dict[str, dict[str, Any]]:
        """Return what is known of a tick's steps, in the order in which they began."""
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM steps WHERE tick = ? ORDER BY rowid", (tick.id,)).fetchall()
        return {row["name"]: {key: row[key] for key in row.keys() if key not in ("tick", "name")} for row in rows}

    def ticks(self, last: int, dataset: str | None = None) -> list[Tick]:
        """Return the latest ticks, of one dataset or all, the last one first."""
        where, values = ("WHERE dataset = ?", [dataset]) if dataset else ("", [])
        with self._transaction() as database:
            rows = database.execute(f"{SELECT} {where} ORDER BY due_at DESC, id DESC LIMIT ?", [*values, last])
            return [_tick(row) for row in rows]

    def prune(self, before: datetime) -> list[str]:
        """Forget ticks that were over before a time, and return their keys."""
        with self._transaction() as database:
            over = "status NOT IN ('due', 'running') AND ended_at < ?"
            keys = [row["key"] for row in database.execute(f"SELECT key FROM ticks WHERE {over}", (_text(before),))]  # noqa: S608
            database.execute(f"DELETE FROM ticks WHERE {over}", (_text(before),))  # noqa: S608
        return keys

    def enter(self, owner: Owner, now: datetime) -> None:
        """Note which process is the scheduler."""
        with self._transaction() as database:
            database.execute("DELETE FROM scheduler")
            database.execute("INSERT INTO scheduler VALUES (?, ?, ?, ?)", (*owner, _text(now)))

    def leave(self, owner: Owner) -> None:
        """Note that this process is the scheduler no more."""
        with self._transaction() as database:
            database.execute("DELETE FROM scheduler WHERE host = ? AND pid = ? AND started = ?", owner)

    def scheduler(self) -> tuple[Owner, datetime] | None:
        """Return the process that was the scheduler last and has not left, and since when; it may have been killed."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM scheduler").fetchone()
        return None if row is None else (_owner(row), datetime.fromisoformat(row["since"]))

    @staticmethod
    def _insert(
        database: sqlite3.Connection, dataset: str, due_at: datetime, status: str, *, by_hand: bool = False
    ) -> int | None:
        """Add a tick where there is none of that time, and return its number."""
        key = f"{dataset} {due_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC {secrets.token_hex(3)}"
        done = database.execute(
            "INSERT OR IGNORE INTO ticks (dataset, due_at, by_hand, key, status) VALUES (?, ?, ?, ?, ?)",
            (dataset, _text(due_at), by_hand, key, status),
        )
        return done.lastrowid

    @staticmethod
    def _own(database: sqlite3.Connection, number: int | None, owner: Owner, now: datetime) -> Tick:
        database.execute(
            "UPDATE ticks SET status = 'running', outcome = '', attempts = attempts + 1, ended_at = NULL, "
            "began_at = COALESCE(began_at, ?), host = ?, pid = ?, started = ? WHERE id = ?",
            (_text(now), *owner, number),
        )
        return _tick(database.execute(f"{SELECT} WHERE id = ?", (number,)).fetchone())

    @staticmethod
    def _end(
        database: sqlite3.Connection,
        tick: Tick,
        status: str,
        outcome: str,
        now: datetime,
        parent_run: str | None = None,
    ) -> None:
        database.execute(
            f"UPDATE ticks SET status = ?, outcome = ?, ended_at = ?, parent_run = ? WHERE {OWNED}",  # noqa: S608
            (status, outcome, _text(now), parent_run, *_owned(tick)),
        )

    @staticmethod
    def _miss(database: sqlite3.Connection, which: str, values: tuple[str, ...], why: str, now: datetime) -> None:
        database.execute(
            f"UPDATE ticks SET status = 'missed', outcome = ?, ended_at = ? WHERE {which}",  # noqa: S608
            (why, _text(now), *values),
        )


SELECT = "SELECT * FROM ticks"
OWNED = "id = ? AND status = 'running' AND host IS ? AND pid IS ? AND started IS ?"


def _owned(tick: Tick) -> tuple[Any, ...]:
    return (tick.id, *(tick.owner or (None, None, None)))


def _at_work(database: sqlite3.Connection, dataset: str) -> Tick | None:
    row = database.execute(f"{SELECT} WHERE dataset = ? AND status = 'running'", (dataset,)).fetchone()
    return None if row is None else _tick(row)


def _tick(row: sqlite3.Row) -> Tick:
    began_at, ended_at = (row[key] and datetime.fromisoformat(row[key]) for key in ("began_at", "ended_at"))
    return Tick(
        row["id"],
        row["dataset"],
        datetime.fromisoformat(row["due_at"]),
        bool(row["by_hand"]),
        row["key"],
        row["status"],
        row["outcome"],
        row["attempts"],
        began_at,
        ended_at,
        _owner(row) if row["pid"] is not None else None,
        row["parent_run"],
    )


def _owner(row: sqlite3.Row) -> Owner:
    return Owner(row["host"], row["pid"], row["started"])


def _text(moment: datetime) -> str:
    """Return a time such that texts are in the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")

"""What is due when, and what became of the last ticks: as facts for programs, and in words for people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulacra.retraining.ledger import Ledger, Tick, ledger_place, log_folder

if TYPE_CHECKING:
    from simulacra.retraining.schedule_config import DatasetSchedule, ScheduleConfig

SHOWN = 10
"""Ticks that are told of."""

NO_BREAK = "\u00a0"

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def overview(config: "ScheduleConfig", state: Path, now: datetime, only: str | None = None) -> dict[str, Any]:
    """Return what is known, fit for JSON: `scheduler`, every dataset's plan, and the last ticks, the latest first.

    Args:
        config: content of schedule.yml.
        state: folder in which the project keeps what it knows of its runs; where it has no ledger, none is made.
        now: the time.
        only: a dataset; of no other one anything is told.
    """
    place = ledger_place(state)
    ledger = Ledger(place) if place.exists() else None
    names = [name for name in config.datasets if only in (None, name)]
    ticks = ledger.ticks(SHOWN, only) if ledger else []
    return {
        "scheduler": _scheduler(ledger),
        "datasets": {name: _plan(config.datasets[name], name, ledger, state, now) for name in names},
        "ticks": [_plain(ledger, tick, state, now) for tick in ticks if ledger],
    }


def span(seconds: float) -> str:
    """Return a time span by its two largest units.

    Example:
        >>> span(0.4), span(127), span(3 * 3600), span(90_061)
        ('0 s', '2 min 7 s', '3 h', '1 d 1 h')
    """
    left = round(seconds)
    told: list[tuple[int, str]] = []
    for unit, size in UNITS:
        if left >= size or told:
            told.append((left // size, unit))
            left %= size
    return " ".join(f"{n} {unit}" for n, unit in told[:2] if n) or "0 s"


def about_scheduler(scheduler: Mapping[str, Any] | None) -> str:
    """Return whether a scheduler is at work, in a sentence."""
    start = "nothing begins by itself until `kedro schedule start`"
    if scheduler is None:
        return f"No scheduler is running: {start}."
    process = f"process {scheduler['pid']} on {scheduler['host']}"
    if scheduler["alive"] is None:
        return f"The scheduler is {process}, since {scheduler['since']}; only there it is known whether it still runs."
    if not scheduler["alive"]:
        return f"The scheduler, {process} since {scheduler['since']}, was killed: {start}."
    return f"The scheduler is {process}, since {scheduler['since']}."


def became(tick: Mapping[str, Any]) -> str:
    """Return what became of a tick, how long it took, and what had to be tried again.

    Example:
        >>> became({"status": "done", "seconds": 127.0, "attempts": 2, "steps": {"vae": {"attempts": 3}}})
        'done in 2 min 7 s, 2 attempts; vae: 3 tries'
    """
    word = {"running": "for", "due": "after"}.get(tick["status"], "in")
    told = tick["status"] if tick["seconds"] is None else f"{tick['status']} {word} {span(tick['seconds'])}"
    if tick["attempts"] > 1:
        told += f", {tick['attempts']} attempts"
    tries = [f"{name}: {step['attempts']} tries" for name, step in tick["steps"].items() if step["attempts"] > 1]
    return "; ".join([told, *tries])


def outcome(tick: Mapping[str, Any]) -> str:
    """Return how a tick ended, or what it is at."""
    at = [name for name, step in tick["steps"].items() if step["status"] == "running"]
    return str(tick["outcome"] or (f"at {', '.join(at)}" if tick["status"] == "running" and at else "–"))


def sentences(state: Mapping[str, Any]) -> list[str]:
    """Return when the datasets of an overview are due, and by which scheduler."""
    told = [f"{name} is {due(entry)}." for name, entry in state["datasets"].items()]
    scheduled = any(entry["cron"] for entry in state["datasets"].values())
    return [*told, *([about_scheduler(state["scheduler"])] if scheduled else [])]


def due(entry: Mapping[str, Any]) -> str:
    r"""Return when a dataset is due.

    Example:
        >>> plan = {"cron": "0 3 * * 1", "timezone": "Europe/Berlin", "next_due": "2026-11-23T03:00+01:00"}
        >>> due(plan | {"overdue": None})
        'due next on Mon 2026-11-23 03:00 (Europe/Berlin, 02:00 UTC), by the line 0\xa03\xa0*\xa0*\xa01'
    """
    if not entry["cron"]:
        return "retrained by hand only"
    next_due, overdue = (entry[key] and datetime.fromisoformat(entry[key]) for key in ("next_due", "overdue"))
    told = f"due next on {next_due:%a %Y-%m-%d %H:%M} ({entry['timezone']}, {next_due.astimezone(UTC):%H:%M} UTC)"
    if overdue:
        told = f"overdue since {overdue:%a %Y-%m-%d %H:%M}, and {told}"
    return f"{told}, by the line {entry['cron'].replace(' ', NO_BREAK)}"


def rows(state: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the ticks of an overview: when each was due in UTC, by whom, what became of it, and its outcome."""
    return [
        (in_utc(tick["due_at"]), ["hand" if tick["by_hand"] else "schedule", became(tick), outcome(tick)])
        for tick in state["ticks"]
    ]


def _scheduler(ledger: Ledger | None) -> dict[str, Any] | None:
    found = ledger and ledger.scheduler()
    if not found:
        return None
    owner, since = found
    alive = owner.process() is not None if owner.here else None
    return {"pid": owner.pid, "host": owner.host, "since": _local(since), "alive": alive}


def _plan(entry: "DatasetSchedule", name: str, ledger: Ledger | None, state: Path, now: datetime) -> dict[str, Any]:
    """Return when a dataset is due, what was due that nobody has looked at yet, and its last tick."""
    trigger, last = entry.trigger(), ledger.ticks(1, name) if ledger else []
    due = trigger.after(now) if trigger else None
    rule, since = (ledger.rules() if ledger else {}).get(name, ("", now))
    overdue = trigger.between(since, now) if trigger and rule == entry.rule else []
    return {
        "cron": entry.cron,
        "timezone": str(entry.zone),
        "next_due": due and due.astimezone(entry.zone).isoformat(timespec="minutes"),
        "overdue": overdue[0].astimezone(entry.zone).isoformat(timespec="minutes") if overdue else None,
        "last": _plain(ledger, last[0], state, now) if ledger and last else None,
    }


def _plain(ledger: Ledger, tick: Tick, state: Path, now: datetime) -> dict[str, Any]:
    """Return a tick as JSON, times in this machine's zone."""
    times = {key: _local(getattr(tick, key)) for key in ("due_at", "began_at", "ended_at")}
    plain = ("dataset", "key", "by_hand", "status", "outcome", "attempts", "parent_run")
    facts = {key: getattr(tick, key) for key in plain}
    owner, ended = tick.owner, tick.ended_at or (now if tick.status == "running" else None)
    if tick.status == "running" and owner and owner.here and owner.process() is None:
        facts["outcome"] = "its process is gone; the next start of the scheduler takes it up"
    facts["seconds"] = (ended - tick.began_at).total_seconds() if tick.began_at and ended else None
    process = {"pid": owner and owner.pid, "host": owner and owner.host}
    return facts | times | process | {"steps": ledger.steps(tick), "logs": str(log_folder(state, tick.key))}


def _local(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().isoformat(sep=" ", timespec="seconds")


def in_utc(moment: str) -> str:
    """Return a moment of an overview in UTC, to the minute.

    Example:
        >>> in_utc("2026-11-23 03:00:10+01:00")
        '2026-11-23 02:00'
    """
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M}"

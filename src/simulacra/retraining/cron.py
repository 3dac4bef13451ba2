"""When a line of crontab is due, as cron reads it: Sunday is 0 or 7, and where two kinds of day are given, one will do.

APScheduler's own reading of such a line counts the days of the week from Monday, wants both kinds of day at once, and
stays for ever in an hour that a clock put back has twice.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

FIELDS = ("minute", "hour", "day", "month", "day_of_week")
WEEK = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class Crontab(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """The times at which a line of crontab is due.

    A fixed hour that comes twice, as the clock is put back, counts once; one that the clock leaves out is due an hour
    later.

    Args:
        line: minute, hour, day of the month, month, day of the week.
        zone: time zone that these are of.

    Raises:
        ValueError: for what is no such line; names the field.

    Example:
        >>> monday = Crontab("0 3 * * 1", ZoneInfo("Europe/Berlin"))
        >>> monday.after(datetime(2026, 11, 22, 12, tzinfo=UTC)).isoformat()
        '2026-11-23T02:00:00+00:00'
    """

    def __init__(self, line: str, zone: ZoneInfo) -> None:
        said = line.split()
        if len(said) != len(FIELDS):
            raise ValueError(f"has {len(said)} fields, not 5: minute, hour, day of the month, month, day of the week")
        fields = dict(zip(FIELDS, said, strict=True))
        fields["day_of_week"] = _weekdays(fields["day_of_week"])
        for name, value in fields.items():
            _check(name, value)
        self._zone = zone
        self._fixed_hour = not fields["hour"].startswith("*")
        either = not (said[2].startswith("*") or said[4].startswith("*"))
        left_out = ({"day"}, {"day_of_week"}) if either else (set(),)
        self._triggers = [
            CronTrigger(timezone=zone, **{name: value for name, value in fields.items() if name not in others})
            for others in left_out
        ]

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time later than a moment, in UTC; None where there is none in thousands of years."""
        while True:
            start = moment.astimezone(UTC) + timedelta(microseconds=1)
            found = [trigger.get_next_fire_time(None, start) for trigger in self._triggers]
            times = [time.astimezone(UTC) for time in found if time is not None]
            if not times:
                return None
            moment = min(times)
            if not (self._fixed_hour and moment.astimezone(self._zone).fold):
                return moment

    def between(self, start: datetime, end: datetime) -> list[datetime]:
        """Return the times later than the start and not later than the end, in UTC."""
        times: list[datetime] = []
        moment = self.after(start)
        while moment is not None and moment <= end:
            times.append(moment)
            moment = self.after(moment)
        return times

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the next time, as APScheduler asks for it."""
        return self.after(previous_fire_time or now)


def _check(name: str, value: str) -> None:
    try:
        CronTrigger(timezone=UTC, **{name: value})
    except ValueError as error:
        raise ValueError(f"{name.replace('_', ' ')} {value!r}: {error}") from error


def _weekdays(field: str) -> str:
    """Return the days of the week by their names.

    Example:
        >>> _weekdays("1-5/2,sun"), _weekdays("5-7"), _weekdays("*")
        ('sun,mon,wed,fri', 'sun,fri,sat', '*')
    """
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.lower().split(","):
        match = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/([1-9]\d*))?", part)
        if not match or (match[1] == "*" and match[2]):
            raise ValueError(f"day of week {field!r}: {part!r} is no day, range or step")
        first = 0 if match[1] == "*" else _day(match[1])
        last = _day(match[2]) if match[2] else 6 if match[1] == "*" or match[3] else first
        if last < first:
            raise ValueError(f"day of week {field!r}: the range {part!r} ends before it begins")
        days |= {day % 7 for day in range(first, last + 1, int(match[3] or 1))}
    return ",".join(WEEK[day] for day in sorted(days))


def _day(name: str) -> int:
    if name in WEEK:
        return WEEK.index(name)
    if name.isdecimal() and int(name) <= 7:
        return int(name)
    raise ValueError(f"day of week {name!r}: it is 0 (Sunday) to 7 (Sunday too), or one of {', '.join(WEEK)}")

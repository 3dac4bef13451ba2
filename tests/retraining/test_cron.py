import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from simulacra.retraining.cron import Crontab

BERLIN = ZoneInfo("Europe/Berlin")


def local(line: str, start: datetime, n: int, zone: ZoneInfo = BERLIN) -> list[str]:
    tab, found = Crontab(line, zone), []
    for _ in range(n):
        start = tab.after(start)
        found.append(f"{start.astimezone(zone):%a %Y-%m-%d %H:%M %z}")
    return found


@pytest.mark.parametrize("day", range(8))
def test_days_of_the_week_count_from_sunday_as_cron_s_do(day: int) -> None:
    due = Crontab(f"0 3 * * {day}", ZoneInfo("UTC")).after(datetime(2026, 11, 22, tzinfo=UTC))
    assert due.isoweekday() % 7 == day % 7


def test_either_kind_of_day_will_do_where_both_are_given() -> None:
    days = local("0 0 13 * 5", datetime(2026, 11, 1, tzinfo=UTC), 6)
    assert [day[:14] for day in days] == [
        *("Fri 2026-11-06", "Fri 2026-11-13", "Fri 2026-11-20", "Fri 2026-11-27", "Fri 2026-12-04", "Fri 2026-12-11"),
    ]
    assert local("0 0 13 * 5", datetime(2026, 12, 11, 12, tzinfo=UTC), 1)[0].startswith("Sun 2026-12-13")


def test_a_night_of_25_hours_has_a_fixed_hour_once_and_every_hour_twice() -> None:
    before = datetime(2026, 10, 24, 10, tzinfo=UTC)
    assert local("30 2 * * *", before, 2) == ["Sun 2026-10-25 02:30 +0200", "Mon 2026-10-26 02:30 +0100"]
    hours = local("30 * * * *", datetime(2026, 10, 24, 23, 0, tzinfo=UTC), 4)
    assert [hour[-11:] for hour in hours] == ["01:30 +0200", "02:30 +0200", "02:30 +0100", "03:30 +0100"]


def test_a_night_of_23_hours_leaves_nothing_out() -> None:
    found = local("30 2 * * *", datetime(2026, 3, 28, 10, tzinfo=UTC), 2)
    assert found == ["Sun 2026-03-29 03:30 +0200", "Mon 2026-03-30 02:30 +0200"]


def matches(field: str, value: int, start: int) -> bool:
    """What crontab(5) says of one field of numbers."""
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low, high = (start, 99) if span == "*" else (int(first), int(last or first))
        if low <= value <= high and (value - low) % int(step or 1) == 0:
            return True
    return False


def test_random_lines_are_due_when_the_manual_says() -> None:
    """Every minute of a fortnight, looked up field by field."""
    draw = random.Random(0)
    begin = datetime(2026, 11, 20, tzinfo=UTC)
    minutes = [begin + timedelta(minutes=minute) for minute in range(14 * 24 * 60)]
    for _ in range(12):
        minute, hour = draw.choice(["*/17", "5,40", "10-20/5"]), draw.choice(["*", "*/6", "3", "9-17"])
        day, month, week = draw.choice(["*", "1,28", "*/2"]), draw.choice(["*", "11"]), draw.choice(["*", "1-5", "0,3"])
        expected = []
        for each in minutes:
            of_month, of_week = matches(day, each.day, 1), matches(week, each.isoweekday() % 7, 0)
            either = day[0] != "*" and week[0] != "*"
            right_day = (of_month or of_week) if either else (of_month and of_week)
            times = matches(minute, each.minute, 0) and matches(hour, each.hour, 0) and matches(month, each.month, 1)
            if times and right_day:
                expected.append(each)
        line = f"{minute} {hour} {day} {month} {week}"
        just_before = begin - timedelta(seconds=1)
        assert Crontab(line, ZoneInfo("UTC")).between(just_before, minutes[-1]) == expected, line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 25 * * *", "hour '25'"),
        ("60 * * * *", "minute '60'"),
        ("0 3 32 * *", "day '32'"),
        ("0 3 * 13 *", "month '13'"),
        ("0 3 * * 8", "it is 0"),
        ("0 3 * * moon", "day of week 'moon'"),
        ("0 3 * * 5-1", "ends before it begins"),
        ("* * * *", "has 4 fields, not 5"),
        ("@weekly", "has 1 fields, not 5"),
        ("*/0 * * * *", "minute"),
    ],
)
def test_what_is_no_crontab_is_refused_by_the_field_at_fault(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Crontab(line, BERLIN)

from datetime import UTC, datetime, timedelta
from pathlib import Path

from simulacra.retraining.ledger import Ledger, ledger_place
from simulacra.retraining.overview import about_scheduler, outcome, overview, rows, sentences
from simulacra.retraining.processes import Owner
from simulacra.retraining.schedule_config import DatasetSchedule, ScheduleConfig

MONDAYS = DatasetSchedule(cron="0 3 * * 1", timezone="Europe/Berlin")
CONFIG = ScheduleConfig(datasets={"toy": MONDAYS, "other": DatasetSchedule()})
NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


def test_without_a_ledger_there_is_a_plan_and_no_ledger_is_made(tmp_path: Path) -> None:
    state = overview(CONFIG, tmp_path, NOW)
    assert state["datasets"]["toy"]["next_due"] == "2026-11-23T03:00+01:00" and state["ticks"] == []
    assert sentences(state) == [
        "toy is due next on Mon 2026-11-23 03:00 (Europe/Berlin, 02:00 UTC), by the line 0\xa03\xa0*\xa0*\xa01.",
        "other is retrained by hand only.",
        "No scheduler is running: nothing begins by itself until `kedro schedule start`.",
    ]
    assert sentences(overview(CONFIG, tmp_path, NOW, "third")) == [] and not [*tmp_path.iterdir()]


def test_what_was_due_while_nothing_ran_is_overdue(tmp_path: Path) -> None:
    ledger = Ledger(ledger_place(tmp_path))
    ledger.keep({"toy": MONDAYS.rule}, NOW - timedelta(days=14))
    assert "overdue since Mon 2026-11-09 03:00" in sentences(overview(CONFIG, tmp_path, NOW))[0]
    ledger.settle("toy", None, [], NOW, "")
    assert "overdue" not in sentences(overview(CONFIG, tmp_path, NOW))[0]


def test_a_tick_tells_what_it_is_at_and_how_it_ended(tmp_path: Path) -> None:
    ledger, me = Ledger(ledger_place(tmp_path)), Owner.me()
    tick = ledger.begin("toy", me, NOW)
    assert tick
    for _ in range(2):
        ledger.step_began(tick, "watch", NOW)
    assert rows(overview(CONFIG, tmp_path, NOW + timedelta(seconds=90)))[0] == (
        "2026-11-18 12:00",
        ["hand", "running for 1 min 30 s; watch: 2 tries", "at watch"],
    )
    ledger.step_ended(tick, "watch", "done", "", NOW)
    ledger.finish(tick, "done", "no need: nothing new", NOW + timedelta(hours=2))
    found = overview(CONFIG, tmp_path, NOW + timedelta(days=3), "toy")
    assert rows(found)[0][1] == ["hand", "done in 2 h; watch: 2 tries", "no need: nothing new"]
    assert rows(overview(CONFIG, tmp_path, NOW, "other")) == []


def test_a_process_that_is_gone_is_told_of(tmp_path: Path) -> None:
    ledger, gone = Ledger(ledger_place(tmp_path)), Owner.me()._replace(started=1.0)
    assert ledger.begin("toy", gone, NOW)
    ledger.enter(gone, NOW)
    state = overview(CONFIG, tmp_path, NOW)
    assert "was killed: nothing begins by itself" in about_scheduler(state["scheduler"])
    assert outcome(state["ticks"][0]) == "its process is gone; the next start of the scheduler takes it up"
    ledger.enter(gone._replace(host="elsewhere"), NOW)
    assert "only there it is known" in about_scheduler(overview(CONFIG, tmp_path, NOW)["scheduler"])
    ledger.enter(Owner.me(), NOW)
    assert about_scheduler(overview(CONFIG, tmp_path, NOW)["scheduler"]).startswith("The scheduler is process")

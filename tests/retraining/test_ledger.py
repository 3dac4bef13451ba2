import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from simulacra.errors import SimulacraError
from simulacra.retraining.ledger import Ledger
from simulacra.retraining.processes import Owner

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

CLAIM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from simulacra.retraining.ledger import Ledger
from simulacra.retraining.processes import Owner

ledger, me = Ledger(Path(sys.argv[1])), Owner.me()
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    if ledger.claim(f"d{number}", me, datetime.now(UTC)):
        print(number)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.keep({"toy": "rule"}, NOON)
    return ledger


def gone() -> Owner:
    """A process that has lived on this machine."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return Owner.me()._replace(pid=process.pid, started=1.0)


def test_no_tick_is_claimed_by_two_processes_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.keep({f"d{number}": "" for number in range(40)}, NOON)
    for number in range(40):
        ledger.settle(f"d{number}", NOON, [], NOON, "")
    command = [sys.executable, "-c", CLAIM, str(tmp_path / "ledger.db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [[int(line) for line in racer.communicate(timeout=30)[0].split()] for racer in racers]
    assert sorted(number for each in won for number in each) == list(range(40))


def test_the_same_due_time_is_one_tick(ledger: Ledger) -> None:
    ledger.settle("toy", NOON, [], NOON, "")
    ledger.settle("toy", NOON, [], NOON, "")
    tick = ledger.claim("toy", Owner.me(), NOON)
    ledger.finish(tick, "done", "well", NOON)
    ledger.settle("toy", NOON, [], NOON, "")  # what is done is not due again
    assert ledger.claim("toy", Owner.me(), NOON) is None
    assert [(each.status, each.outcome) for each in ledger.ticks(9)] == [("done", "well")]


def test_a_dataset_has_one_tick_at_work(ledger: Ledger) -> None:
    first = ledger.begin("toy", Owner.me(), NOON)
    assert ledger.begin("toy", Owner.me(), NOON + HOUR) is None
    ledger.settle("toy", NOON + HOUR, [], NOON + HOUR, "")
    assert ledger.claim("toy", Owner.me(), NOON + HOUR) is None
    ledger.finish(first, "failed", "", NOON)
    assert ledger.claim("toy", Owner.me(), NOON + HOUR).due_at == NOON + HOUR


def test_a_dead_process_s_tick_is_taken_up_once_and_a_living_one_s_is_not(ledger: Ledger) -> None:
    ledger.settle("toy", NOON, [], NOON, "")
    dead = gone()
    tick = ledger.claim("toy", dead, NOON)
    taken = ledger.take_up("toy", Owner.me(), NOON + HOUR, most=3)
    assert (taken.key, taken.attempts, taken.began_at) == (tick.key, 2, NOON)
    living = psutil.Process(os.getppid())
    other = Owner.me()._replace(pid=living.pid, started=living.create_time())
    assert ledger.take_up("toy", other, NOON + HOUR, most=3) is None  # this process lives
    ledger.finish(tick, "failed", "said by one who was thought dead", NOON)  # it has it no more
    ledger.finish(taken, "done", "", NOON)
    assert ledger.ticks(1)[0].status == "done"


def test_a_number_that_another_process_has_by_now_is_not_the_owner(ledger: Ledger) -> None:
    me = Owner.me()
    ledger.begin("toy", me._replace(started=me.started - 3600), NOON)
    assert ledger.take_up("toy", me, NOON, most=3).attempts == 2


def test_a_tick_that_kills_whoever_works_on_it_is_given_up(ledger: Ledger) -> None:
    ledger.begin("toy", gone(), NOON)
    assert ledger.take_up("toy", gone(), NOON, most=2).attempts == 2
    assert ledger.take_up("toy", Owner.me(), NOON, most=2) is None
    assert (ledger.ticks(1)[0].status, ledger.ticks(1)[0].outcome) == ("killed", "its process was killed 2 times")


def test_one_that_is_put_back_waits_and_loses_no_attempt(ledger: Ledger) -> None:
    ledger.settle("toy", NOON, [], NOON, "")
    tick = ledger.claim("toy", Owner.me(), NOON)
    ledger.step_began(tick, "watch", NOON)
    ledger.step_ended(tick, "watch", "done", "", NOON)
    ledger.put_back(tick, "interrupted")
    assert ledger.waiting("toy") == [NOON]
    again = ledger.claim("toy", Owner.me(), NOON)
    assert (again.key, again.attempts) == (tick.key, 1) and ledger.steps(again)["watch"]["status"] == "done"


def test_a_new_rule_has_missed_nothing_and_a_dataset_without_one_waits_no_more(ledger: Ledger) -> None:
    ledger.settle("toy", NOON, [], NOON, "")
    ledger.keep({"toy": "rule"}, NOON + HOUR)
    assert ledger.since("toy") == NOON
    ledger.keep({"toy": "another"}, NOON + HOUR)
    assert ledger.since("toy") == NOON + HOUR
    ledger.keep({}, NOON + 2 * HOUR)
    assert (ledger.ticks(1)[0].status, ledger.ticks(1)[0].outcome) == ("missed", "no longer scheduled")


def test_old_ticks_are_forgotten_with_their_steps(ledger: Ledger) -> None:
    tick = ledger.begin("toy", Owner.me(), NOON)
    ledger.step_began(tick, "watch", NOON)
    assert ledger.prune(NOON + HOUR) == []  # it is at work
    ledger.finish(tick, "done", "", NOON)
    assert ledger.prune(NOON) == [] and ledger.prune(NOON + HOUR) == [tick.key]
    assert ledger.ticks(9) == [] and ledger.steps(tick) == {}


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(os.urandom(5000))
    with pytest.raises(SimulacraError, match=r"ledger\.db cannot be used: file is not a database; .* move it away"):
        Ledger(tmp_path / "ledger.db")

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulacra.retraining import processes
from simulacra.retraining.ledger import Tick
from simulacra.retraining.processes import Owner
from simulacra.retraining.tick import Ending, Stopped, Workshop, last_line

from .conftest import decide, trace


def begin(shop: Workshop) -> Tick:
    tick = shop.ledger.begin("toy", Owner.me(), datetime.now(UTC))
    assert tick
    return tick


def test_no_need_ends_a_tick_after_its_first_step(workshop: Callable, tmp_path: Path) -> None:
    decide(tmp_path, retrain=False)
    shop = workshop({})
    assert shop.work_off(begin(shop)) == Ending("done", "no need: new data")
    assert trace(tmp_path, "ended") == ["watch"]


def test_families_are_trained_and_then_judged_in_one_parent_run(workshop: Callable, tmp_path: Path) -> None:
    code = "open(f'{folder}/{name}.env', 'w').write(os.environ['SIMULACRA_PARENT_RUN'])"
    shop = workshop(dict.fromkeys(("watch", "gmm", "vae", "retrain"), code))
    decide(tmp_path, "gmm", "vae")
    tick = begin(shop)
    assert shop.work_off(tick) == Ending("done", "retrained gmm, vae: new data")
    assert trace(tmp_path, "ended") == ["watch", "prepare", "gmm", "vae", "retrain"]
    assert {(tmp_path / f"{name}.env").read_text() for name in ("watch", "gmm", "vae", "retrain")} == {tick.key}
    assert tick.key.startswith(f"toy {tick.due_at:%Y-%m-%d %H:%M} UTC ")
    assert {each["status"] for each in shop.ledger.steps(tick).values()} == {"done"}
    assert shop.ledger.ticks(1)[0].status == "done"


def test_what_families_share_is_made_before_them_and_none_is_trained_without(
    workshop: Callable, tmp_path: Path
) -> None:
    shop = workshop({"prepare": "time.sleep(0.2); sys.exit(tries < 1)"}, retries=0)
    decide(tmp_path, "gmm")
    assert shop.work_off(begin(shop)) == Ending("failed", "prepare: exit code 1: it printed nothing")
    assert trace(tmp_path) == ["watch", "prepare"]
    assert shop.work_off(begin(shop)).status == "done"
    assert trace(tmp_path)[2:] == ["watch", "prepare", "gmm", "retrain"]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_no_more_processes_work_at_once_than_are_allowed(concurrency: int, workshop: Callable, tmp_path: Path) -> None:
    shop = workshop(dict.fromkeys(("a", "b", "c", "d"), "time.sleep(0.4)"), concurrency)
    decide(tmp_path, "a", "b", "c", "d")
    assert shop.work_off(begin(shop)).status == "done"
    lines = sorted((tmp_path / "trace").read_text().splitlines(), key=lambda line: float(line.split()[2]))
    at_work = [0]
    for line in lines:
        at_work.append(at_work[-1] + (1 if line.startswith("began") else -1))
    assert max(at_work) == concurrency


def test_a_family_that_fails_stops_no_other_and_is_told(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop({"vae": "print('Error: loss is NaN'); print('Train it slower.'); sys.exit(3)"}, retries=1)
    decide(tmp_path, "vae", "gmm")
    ending = shop.work_off(begin(shop))
    assert ending == Ending("failed", "vae: exit code 3: Error: loss is NaN Train it slower.; done: gmm, retrain")
    assert trace(tmp_path) == ["watch", "prepare", "vae", "vae", "gmm", "retrain"]


@pytest.mark.parametrize(("also", "ended"), [("", ["watch", "page"]), ("sys.exit(1)", ["watch"])])
def test_a_page_is_written_when_all_is_over_and_may_fail(
    also: str, ended: list[str], workshop: Callable, tmp_path: Path
) -> None:
    ledger = "sqlite3.connect(f'{folder}/data/.simulacra/schedule/ledger.db')"
    look = f"open(f'{{folder}}/seen', 'w').write({ledger}.execute('SELECT status FROM ticks').fetchone()[0])"
    decide(tmp_path, retrain=False)
    shop = workshop({"page": f"import sqlite3; {look}; {also}"})
    assert shop.work_off(begin(shop)) == Ending("done", "no need: new data")
    assert trace(tmp_path, "ended") == ended and (tmp_path / "seen").read_text() == "done"


def test_where_every_family_fails_there_is_nothing_to_judge(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop({"vae": "sys.exit(1)"}, retries=0)
    decide(tmp_path, "vae")
    assert shop.work_off(begin(shop)) == Ending("failed", "vae: exit code 1: it printed nothing")
    assert trace(tmp_path) == ["watch", "prepare", "vae"]


def test_what_fails_is_tried_again_after_longer_and_longer_pauses(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop({"gmm": "tries < 2 and sys.exit(1)"}, retries=2, back_off=0.4)
    decide(tmp_path, "gmm")
    tick = begin(shop)
    assert shop.work_off(tick).status == "done"
    assert trace(tmp_path) == ["watch", "prepare", "gmm", "gmm", "gmm", "retrain"]
    assert shop.ledger.steps(tick)["gmm"]["attempts"] == 3
    began = [float(line.split()[2]) for line in (tmp_path / "trace").read_text().splitlines() if "began gmm" in line]
    assert began[1] - began[0] > 0.2 and began[2] - began[1] > 0.4  # half of 0.4 s, half of 0.8 s


def test_a_step_that_cannot_be_started_or_decides_nothing_is_a_failure(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop({})
    assert "does not say whether to retrain" in shop.work_off(begin(shop)).outcome
    shop.project = tmp_path / "nowhere"
    assert "could not be started" in shop.work_off(begin(shop)).outcome
    assert [tick.status for tick in shop.ledger.ticks(9)] == ["failed", "failed"]


def test_a_step_that_takes_too_long_is_ended_with_its_grandchildren(workshop: Callable, tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.fork() or os.fork(); time.sleep(60)"
    shop = workshop({"gmm": code}, timeout=1.5 / 60, patience=0.5)
    decide(tmp_path, "gmm")
    tick, began = begin(shop), time.monotonic()
    assert shop.work_off(tick) == Ending("timed out", "gmm: took longer than 0.025 minutes")
    assert time.monotonic() - began < 15
    assert processes.marked(tick.key) == []
    assert shop.ledger.steps(tick)["gmm"]["attempts"] == 1  # it would take too long again
    assert shop.ledger.ticks(1)[0].status == "timed out"


def test_a_stop_ends_the_step_and_the_tick_goes_on_where_it_was(workshop: Callable, tmp_path: Path) -> None:
    clean = "import signal; signal.signal(signal.SIGINT, lambda *_: (note('asked'), sys.exit(0)))"
    shop = workshop({"gmm": f"{clean}; time.sleep(60 * (tries < 1))"})
    decide(tmp_path, "gmm")
    tick = begin(shop)
    waiting = threading.Thread(
        target=lambda: (_until(lambda: "gmm" in trace(tmp_path)), time.sleep(0.3), shop.stop.set())
    )
    waiting.start()
    with pytest.raises(Stopped):
        shop.work_off(tick)
    waiting.join()
    assert trace(tmp_path, "asked") == ["gmm"] and processes.marked(tick.key) == []
    assert shop.ledger.steps(tick)["gmm"]["status"] == "killed"
    shop.stop.clear()
    assert shop.work_off(tick).status == "done"
    assert trace(tmp_path, "ended") == ["watch", "prepare", "gmm", "retrain"]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_whatever_goes_wrong_ends_the_tick(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop(
        {"watch": "os.remove(sys.argv[1] + '/data/.simulacra/schedule/logs/' + open('log').read()); sys.exit(1)"}
    )
    tick = begin(shop)
    (tmp_path / "log").write_text(f"{shop.logs(tick.key).name}/watch.log")
    assert shop.work_off(tick).outcome.startswith("FileNotFoundError: ")
    assert shop.ledger.ticks(1)[0].status == "failed"


def test_the_last_line_of_a_long_log_is_found(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a line\n" * 9000 + "Error: here it is\n \n")
    assert last_line(tmp_path / "log") == "Error: here it is"
    (tmp_path / "log").write_text(f"first\nError: unknown {'x' * 999}\n")
    assert last_line(tmp_path / "log").startswith("Error: unknown xxx") and len(last_line(tmp_path / "log")) == 300

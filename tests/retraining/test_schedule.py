import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from simulacra.errors import SimulacraError
from simulacra.retraining import processes
from simulacra.retraining.schedule import AtWork, Scheduler, plan
from simulacra.retraining.schedule_config import DatasetSchedule
from simulacra.retraining.tick import Workshop

from .conftest import decide, trace

JANUARY = [datetime(year, 1, 1, tzinfo=UTC) for year in range(2023, 2027)]

SERVE = """
import json, logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import commands
from simulacra.retraining.schedule import Scheduler
from simulacra.retraining.schedule_config import ScheduleConfig
from simulacra.retraining.tick import Workshop

logging.basicConfig(level=logging.INFO)
folder, settings = Path(sys.argv[2]), json.loads(sys.argv[3])
config = ScheduleConfig.model_validate_json(sys.argv[4])
Scheduler(Workshop(folder, folder / "data", config, commands(folder, settings))).serve()
"""


def hours(*numbers: int) -> list[datetime]:
    return [datetime(2026, 11, 2, hour, tzinfo=UTC) for hour in numbers]


def test_a_tick_in_time_runs_whatever_the_policy() -> None:
    for misfire in ("run", "skip"):
        entry = DatasetSchedule(misfire=misfire, grace=300)
        todo = plan(hours(3), hours(3)[0] + timedelta(seconds=300), entry)
        assert (todo.run, todo.missed) == (hours(3)[0], ())


def test_what_was_missed_is_made_up_for_by_one_tick_or_left() -> None:
    now = hours(9)[0]
    todo = plan(hours(3, 1, 2), now, DatasetSchedule(misfire="run"))
    assert (todo.run, list(todo.missed), todo.why) == (
        hours(3)[0],
        hours(1, 2),
        "made up for by the tick of 2026-11-02 03:00 UTC",
    )
    todo = plan(hours(3, 1, 2), now, DatasetSchedule(misfire="skip"))
    assert (todo.run, list(todo.missed)) == (None, hours(1, 2, 3))
    # The last one is in time, so it runs by either policy.
    todo = plan(hours(8, 9), now, DatasetSchedule(misfire="skip"))
    assert (todo.run, list(todo.missed)) == (hours(9)[0], hours(8))


@pytest.mark.parametrize("misfire", ["run", "skip"])
def test_the_ledger_catches_up_with_a_clock_that_is_handed_in(misfire: str, workshop: Callable) -> None:
    shop = workshop({}, misfire=misfire)
    shop.ledger.keep({"toy": "rule"}, datetime(2022, 6, 1, tzinfo=UTC))
    scheduler, now = Scheduler(shop), datetime(2026, 6, 1, tzinfo=UTC)
    scheduler.catch_up("toy", datetime(2022, 7, 1, tzinfo=UTC))
    assert shop.ledger.ticks(9) == []
    for _ in range(2):  # a second look finds nothing new
        scheduler.catch_up("toy", now)
        found = {tick.due_at: tick.status for tick in shop.ledger.ticks(9)}
        assert found == dict.fromkeys(JANUARY, "missed") | ({JANUARY[-1]: "due"} if misfire == "run" else {})
    assert shop.ledger.since("toy") == now
    # The one that waits is late for the next January, which makes up for it.
    scheduler.catch_up("toy", datetime(2027, 1, 1, 0, 1, tzinfo=UTC))
    assert [tick.status for tick in shop.ledger.ticks(2)] == ["due", "missed"]


def test_what_is_due_is_worked_off_until_nothing_is(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop({})
    decide(tmp_path, "gmm")
    shop.ledger.keep({"toy": "rule"}, datetime(2022, 6, 1, tzinfo=UTC))
    Scheduler(shop).work("toy")
    assert trace(tmp_path, "ended") == ["watch", "prepare", "gmm", "retrain"]
    assert [tick.status for tick in shop.ledger.ticks(9)] == ["done", *["missed"] * (len(shop.ledger.ticks(9)) - 1)]


def test_a_tick_that_is_to_begin_late_waits_in_the_ledger(workshop: Callable, tmp_path: Path) -> None:
    shop = workshop({}, jitter=86_400)
    shop.ledger.keep({"toy": "rule"}, datetime(2024, 6, 1, tzinfo=UTC))
    worker = threading.Thread(target=Scheduler(shop).work, args=["toy"])
    worker.start()
    worker.join(0.5)
    assert worker.is_alive() and shop.ledger.ticks(1)[0].status == "due"
    with Scheduler(shop)._alone("tick.toy"):  # and keeps nobody from doing it by hand
        shop.stop.set()
    worker.join(5)
    assert not worker.is_alive() and shop.ledger.ticks(1)[0].status == "due" and trace(tmp_path) == []


def test_what_a_killed_process_did_by_hand_is_taken_up_though_it_is_not_scheduled(workshop: Callable) -> None:
    shop = workshop({})
    shop.ledger.begin("other", processes.Owner.me()._replace(pid=2**22 + 1), datetime.now(UTC))
    server = threading.Thread(target=Scheduler(shop).serve)
    server.start()
    deadline = time.monotonic() + 20
    while shop.ledger.ticks(1)[0].status == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    shop.stop.set()
    server.join(10)
    (tick,) = shop.ledger.ticks(9)
    assert (tick.status, tick.attempts) == ("failed", 2) and "other/retrain_decision.json does not say" in tick.outcome


def test_nothing_scheduled_is_told(workshop: Callable) -> None:
    with pytest.raises(SimulacraError, match=r"no dataset has a cron line; conf/README\.md has an example"):
        Scheduler(workshop({}, cron=None)).serve()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Workshop, dict[str, str]], subprocess.Popen]]:
    """Start a scheduler in a process of its own, which for two Januaries has had nobody to do its work."""
    started: list[subprocess.Popen] = []

    def start(shop: Workshop, codes: dict[str, str]) -> subprocess.Popen:
        import json

        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", SERVE, here, str(tmp_path), json.dumps(codes), shop.config.model_dump_json()]
        shop.ledger.keep({"toy": shop.config.of("toy").rule}, datetime(2024, 6, 1, tzinfo=UTC))
        with (tmp_path / f"scheduler{len(started)}.log").open("w") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(true: Callable[[], object], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while not true():
        logs = "".join(path.read_text()[-2000:] for path in folder.glob("scheduler*.log"))
        assert time.monotonic() < deadline, logs
        time.sleep(0.05)


def test_killed_in_the_middle_of_a_tick_it_goes_on_and_does_nothing_twice(
    workshop: Callable, serve: Callable, tmp_path: Path
) -> None:
    decide(tmp_path, "gmm", "vae")
    shop, codes = workshop({}, patience=1), {"vae": "time.sleep(60 * (tries < 1))"}
    first = serve(shop, codes)
    until(lambda: trace(tmp_path).count("vae") == 1, tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (tick,) = [tick for tick in shop.ledger.ticks(9) if tick.status == "running"]
    assert [step.pid for step in processes.marked(tick.key)]  # what it had started lives on
    second = serve(shop, codes)
    until(lambda: shop.ledger.ticks(1)[0].status == "done", tmp_path)
    assert trace(tmp_path, "ended") == ["watch", "prepare", "gmm", "vae", "retrain"]
    assert trace(tmp_path) == ["watch", "prepare", "gmm", "vae", "vae", "retrain"]
    last, *others = shop.ledger.ticks(9)
    assert (last.key, last.attempts, last.outcome) == (tick.key, 2, "retrained gmm, vae: new data")
    assert {other.status for other in others} == {"missed"} and processes.marked(tick.key) == []
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0


def test_the_second_scheduler_says_who_the_first_is(workshop: Callable, serve: Callable, tmp_path: Path) -> None:
    decide(tmp_path, retrain=False)
    shop = workshop({})
    first = serve(shop, {})
    until(lambda: [tick.status for tick in shop.ledger.ticks(1)] == ["done"], tmp_path)
    assert shop.ledger.scheduler()[0].pid == first.pid
    second = serve(shop, {})
    assert second.wait(30) == 1
    said = (tmp_path / "scheduler1.log").read_text()
    assert f"schedule is being worked on by process {first.pid} since" in said
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0 and shop.ledger.scheduler() is None
    assert trace(tmp_path) == ["watch"]


def test_a_stopped_scheduler_puts_its_tick_back_and_the_next_goes_on(
    workshop: Callable, serve: Callable, tmp_path: Path
) -> None:
    decide(tmp_path, "gmm")
    shop, codes = workshop({}), {"gmm": "import signal; signal.signal(2, signal.default_int_handler); "}
    codes["gmm"] += "time.sleep(60 * (tries < 1))"
    first = serve(shop, codes)
    until(lambda: "gmm" in trace(tmp_path), tmp_path)
    time.sleep(0.3)
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    assert (shop.ledger.ticks(1)[0].status, shop.ledger.ticks(1)[0].attempts) == ("due", 0)
    second = serve(shop, codes)
    until(lambda: shop.ledger.ticks(1)[0].status == "done", tmp_path)
    assert trace(tmp_path, "ended") == ["watch", "prepare", "gmm", "retrain"]
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0


def test_by_hand_refuses_while_one_is_at_work_and_takes_up_what_was_left(workshop: Callable, tmp_path: Path) -> None:
    decide(tmp_path, retrain=False)
    shop = workshop({})
    scheduler = Scheduler(shop)
    with (
        scheduler._alone("tick.toy"),
        pytest.raises(AtWork, match=rf"tick\.toy is being worked on by process {os.getpid()}"),
    ):
        Scheduler(shop).run_now("toy")
    tick, ending = scheduler.run_now("toy")
    assert (tick.by_hand, ending.outcome) == (True, "no need: new data")
    me = processes.Owner.me()
    shop.ledger.begin("toy", me._replace(pid=2**22 + 1), datetime.now(UTC))
    tick, ending = scheduler.run_now("toy")
    assert (tick.attempts, ending.status, len(shop.ledger.ticks(9))) == (2, "done", 2)


@pytest.mark.slow
def test_a_tick_of_real_runs_has_one_parent_in_mlflow(tmp_path: Path, copied: Callable) -> None:
    """Kedro's own processes, some of whose pipelines stand in for others so that it takes a minute and no more."""
    from mlflow.tracking import MlflowClient

    from simulacra.retraining.schedule_config import ScheduleConfig
    from simulacra.retraining.steps import Step, Steps

    project = copied(tmp_path)
    (project / "conf/test/experiments.yml").write_text("mnist:\n  families: [naive_bayes]\n")
    place = project / "data/test/08_reporting/mnist/retrain_decision.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"retrain": true, "reasons": ["new data"], "families": ["naive_bayes"]}')

    def run(name: str, pipelines: str, namespace: str) -> Step:
        options = ("--env", "test", "--pipelines", pipelines, "--namespaces", namespace)
        return Step(name, (sys.executable, "-m", "kedro", "run", *options))

    def commands(dataset: str, families: tuple[str, ...]) -> Steps:
        trained = tuple(run(f"train {family}", "train", f"{dataset}.{family}") for family in families)
        return Steps(
            run("watch", "ingest", dataset),
            run("prepare", "preprocess", dataset),
            trained,
            run("retrain", "generate", f"{dataset}.naive_bayes"),
        )

    shop = Workshop(project, project / "data/test", ScheduleConfig(), commands)
    tick, ending = Scheduler(shop).run_now("mnist")
    assert ending.status == "done", ending.outcome
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("simulacra").experiment_id])
    (parent,) = [found for found in found if "mlflow.parentRunId" not in found.data.tags]
    assert (parent.info.run_name, parent.info.status) == (tick.key, "FINISHED")
    assert shop.ledger.ticks(1)[0].parent_run == parent.info.run_id
    assert [run.info.run_name for run in found if run != parent] == ["mnist.naive_bayes"] * 2

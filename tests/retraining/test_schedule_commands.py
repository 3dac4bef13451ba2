"""The commands as a user types them, in a copy of the project."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulacra.retraining.ledger import Ledger
from simulacra.retraining.processes import Owner


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, copied: Callable) -> Path:
    return copied(tmp_path_factory.mktemp("scheduled"))


@pytest.fixture
def said(project: Path) -> Iterator[Callable[[str], None]]:
    """Say something in conf/local/schedule.yml, for one test."""
    place = project / "conf/local/schedule.yml"
    yield place.write_text
    place.unlink(missing_ok=True)


def test_a_project_as_shipped_schedules_nothing(project: Path, kedro: Callable) -> None:
    assert "No dataset is scheduled" in kedro(project, "schedule", "list").stdout
    done = kedro(project, "schedule", "start", code=1)
    assert done.stderr.strip().endswith("no dataset has a cron line; conf/README.md has an example")
    assert "Traceback" not in done.stderr + done.stdout
    assert "no scheduler is running for this project" in kedro(project, "schedule", "stop", code=1).stderr
    done = kedro(project, "schedule", "run-now", "mnits", code=1)
    assert "unknown dataset 'mnits'; did you mean 'mnist'?" in done.stderr


@pytest.mark.parametrize("command", ["start", "list"])
def test_a_bad_cron_line_is_told_by_its_key_before_anything_starts(
    command: str, project: Path, said: Callable, kedro: Callable
) -> None:
    said("datasets:\n  mnist:\n    cron: 0 25 * * 1\n")
    done = kedro(project, "schedule", command, code=1)
    assert "Error: schedule.yml: datasets.mnist.cron: hour '25'" in done.stderr and "Traceback" not in done.stderr


def test_start_list_and_stop(project: Path, said: Callable, kedro: Callable) -> None:
    said("datasets:\n  mnist:\n    cron: 0 3 * * 1\n    timezone: Europe/Berlin\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))}
    command = [sys.executable, "-m", "kedro", "schedule", "start"]
    with (project / "scheduler.log").open("w") as log:
        scheduler = subprocess.Popen(command, cwd=project, env=clean, stdout=log, stderr=log)
    try:
        ledger, deadline = Ledger(project / "data/.simulacra/schedule/ledger.db"), time.monotonic() + 30
        while ledger.scheduler() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        state = json.loads(kedro(project, "schedule", "list", "--json").stdout)
        assert state["scheduler"]["pid"] == scheduler.pid
        due = datetime.fromisoformat(state["datasets"]["mnist"]["next_due"])
        assert (due.isoweekday(), due.hour, state["datasets"]["mnist"]["timezone"]) == (1, 3, "Europe/Berlin")
        second = kedro(project, "schedule", "start", code=1)
        assert f"schedule is being worked on by process {scheduler.pid} since" in second.stderr
        assert f"stopped the scheduler, process {scheduler.pid}" in kedro(project, "schedule", "stop").stdout
        assert scheduler.wait(5) == 0, (project / "scheduler.log").read_text()
    finally:
        scheduler.kill()
        scheduler.wait()


def test_stop_leaves_a_stranger_alone_that_has_the_number_of_a_killed_scheduler(project: Path, kedro: Callable) -> None:
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        ledger = Ledger(project / "data/.simulacra/schedule/ledger.db")
        ledger.enter(Owner.me()._replace(pid=stranger.pid, started=1.0), datetime.now(UTC))
        assert "no scheduler is running" in kedro(project, "schedule", "stop", code=1).stderr
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()


def test_list_shows_what_became_of_the_last_ticks(project: Path, said: Callable, kedro: Callable) -> None:
    said("datasets:\n  mnist:\n    cron: 0 3 * * 1\n")
    ledger = Ledger(project / "data/.simulacra/schedule/ledger.db")
    tick = ledger.begin("mnist", Owner.me(), datetime(2026, 11, 2, 2, 0, 10, tzinfo=UTC))
    ledger.finish(tick, "failed", "train vae: exit code 1: loss is [NaN]", datetime(2026, 11, 2, 3, tzinfo=UTC), "r1")
    out = " ".join(kedro(project, "schedule", "list", TZ="UTC").stdout.split())
    assert "nothing begins by itself until `kedro schedule start`" in out and "Mon 20" in out
    assert "mnist 2026-11-02 02:00 failed in 59 min 50 s train vae: exit code 1: loss is [NaN] by hand" in out
    assert f"printed: {project}/data/.simulacra/schedule/logs/mnist_2026-11-02" in out
    (only,) = json.loads(kedro(project, "schedule", "list", "--json").stdout)["ticks"]
    assert (only["status"], only["parent_run"], only["attempts"], only["dataset"]) == ("failed", "r1", 1, "mnist")

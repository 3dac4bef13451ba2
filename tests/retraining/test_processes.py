import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulacra.retraining import processes
from simulacra.retraining.processes import Owner

CHILDREN = """
import os, signal, sys, time
from pathlib import Path

place, stubborn = Path(sys.argv[1]), sys.argv[2] == "stubborn"

def sleep(name):
    def note(*_):
        (place / f"{name}.asked").touch()
        if not stubborn:
            sys.exit(0)

    signal.signal(signal.SIGINT, note)
    (place / f"{name}.new").write_text(str(os.getpid()))
    (place / f"{name}.new").rename(place / f"{name}.pid")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.05)

if not os.fork():
    if not os.fork():
        os.setsid()  # as torch's elastic agent does with its workers
        sleep("grandchild")
    sleep("child")
sleep("leader")
"""
NAMES = ("leader", "child", "grandchild")


@pytest.mark.parametrize("how", ["willing", "stubborn"])
def test_all_that_a_step_has_started_ends(how: str, tmp_path: Path) -> None:
    environment = dict(os.environ) | {processes.MARK: "toy tick:watch"}
    command = [sys.executable, "-c", CHILDREN, str(tmp_path), how]
    process = processes.begin(command, tmp_path, environment, tmp_path / "log")
    deadline = time.monotonic() + 20
    while not all((tmp_path / f"{name}.pid").exists() for name in NAMES):
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.02)
    pids = {int((tmp_path / f"{name}.pid").read_text()) for name in NAMES}
    assert {each.pid for each in processes.marked("toy tick")} == pids
    assert processes.marked("toy") == [] == processes.marked("toy tick:wat")
    assert processes.end("toy tick:watch", patience=5 if how == "willing" else 0.5) == 3
    process.wait(5)
    assert processes.marked("toy tick") == []
    assert all((tmp_path / f"{name}.asked").exists() for name in NAMES)  # by SIGINT first
    assert process.returncode == (0 if how == "willing" else -signal.SIGKILL)


def test_an_owner_is_one_process_and_no_other(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    import psutil

    owner = Owner.me()._replace(pid=process.pid, started=psutil.Process(process.pid).create_time())
    try:
        assert owner.process().pid == process.pid
        assert owner._replace(started=owner.started - 60).process() is None
        assert owner._replace(host="elsewhere").process() is None
        process.kill()
        time.sleep(0.1)
        assert owner.process() is None  # though nobody has waited for it yet
    finally:
        process.kill()
        process.wait()

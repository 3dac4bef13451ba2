import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulacra.errors import SimulacraError
from simulacra.locks import Locks

HOLD = """
import os, sys, time
from pathlib import Path
from simulacra.locks import Locks

locks = Locks()
locks.take(Path(sys.argv[1]), sys.argv[2:-1])
hear, tell = os.pipe()
children = [os.fork() for _ in range(sys.argv[-1] == "and a child")]
if 0 in children:
    os.write(tell, b"born")
else:
    born = [os.read(hear, 4) for _ in children]
    print("held", *children, flush=True)
time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable]:
    """Start a process that takes locks; return it with what it says once it has them."""
    started: list[subprocess.Popen] = []

    def start(*names: str, child: bool = False) -> tuple[subprocess.Popen, list[int]]:
        command = [sys.executable, "-c", HOLD, str(tmp_path), *names, "and a child" if child else "alone"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        said = started[-1].stdout.readline().split()
        assert said[0] == "held"
        return started[-1], [int(pid) for pid in said[1:]]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_same_target_twice_gets_one_message_with_pid_and_start_time(tmp_path: Path, hold: Callable) -> None:
    process, _ = hold("mnist", "mnist.vae")
    with pytest.raises(SimulacraError) as caught:
        Locks().take(tmp_path, ["mnist.gmm", "mnist.vae"])
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"
    message = rf"mnist\.vae is being worked on by process {process.pid} since {when}: wait for it or stop it"
    assert re.fullmatch(message, str(caught.value))


def test_all_or_none_are_taken(tmp_path: Path, hold: Callable) -> None:
    hold("mnist.vae")
    with pytest.raises(SimulacraError):
        Locks().take(tmp_path, ["mnist.gmm", "mnist.vae"])
    hold("mnist.gmm")  # a second process could not hold it, had the first attempt kept it


def test_different_targets_do_not_mind_each_other(tmp_path: Path, hold: Callable) -> None:
    hold("mnist.vae")
    locks = Locks()
    locks.take(tmp_path, ["mnist.gmm"])
    locks.free()


def test_a_freed_lock_leaves_nothing_to_take_over(
    tmp_path: Path, hold: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    locks = Locks()
    locks.take(tmp_path, ["mnist"])
    note = json.loads((tmp_path / "mnist.json").read_text())
    assert (note["pid"], note["host"]) == (os.getpid(), socket.gethostname())
    locks.free()
    locks.free()
    hold("mnist")
    assert not caplog.records


def test_a_dead_process_s_lock_is_taken_over_even_while_its_child_lives(
    tmp_path: Path, hold: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    process, (child,) = hold("mnist.vae", child=True)
    process.kill()
    process.wait()
    try:
        os.kill(child, 0)  # it lives
        with caplog.at_level(logging.INFO):
            locks = Locks()
            locks.take(tmp_path, ["mnist.vae"])
    finally:
        os.kill(child, signal.SIGKILL)
    assert f"taking over the lock of mnist.vae: process {process.pid} since" in caplog.text
    assert "is gone" in caplog.text
    locks.free()


def test_a_process_that_ends_by_an_error_frees_its_locks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = HOLD.replace("time.sleep(60)", "raise KeyboardInterrupt")
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "mnist", "alone"], check=False, capture_output=True)
    with caplog.at_level(logging.INFO):
        locks = Locks()
        locks.take(tmp_path, ["mnist"])
    assert not caplog.records
    locks.free()


def test_a_child_frees_nothing_of_its_parent_s(tmp_path: Path) -> None:
    locks = Locks()
    locks.take(tmp_path, ["mnist"])
    child = os.fork()
    if not child:
        locks.free()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "mnist.json").exists()
    with pytest.raises(SimulacraError, match=f"process {os.getpid()}"):
        Locks().take(tmp_path, ["mnist"])
    locks.free()


def test_an_interrupted_run_in_a_notebook_can_be_begun_again(tmp_path: Path) -> None:
    locks = Locks()
    locks.take(tmp_path, ["mnist", "mnist.vae"])
    locks.take(tmp_path, ["mnist", "mnist.vae"])
    locks.free()


def test_a_note_that_cannot_be_read_costs_the_pid_only(tmp_path: Path, hold: Callable) -> None:
    hold("mnist")
    (tmp_path / "mnist.json").write_text("{")
    with pytest.raises(SimulacraError, match="mnist is being worked on by another process: wait for it or stop it"):
        Locks().take(tmp_path, ["mnist"])

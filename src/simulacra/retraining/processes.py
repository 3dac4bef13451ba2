"""Processes that can be told again later: who began a tick, and all that a step has started, however deep."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from psutil import Process

MARK = "SIMULACRA_STEP"
"""Environment variable that a step's process and all below it carry, so that they are found in whatever group."""

SAME_START = 2.0
"""Seconds by which the start of one and the same process may seem to differ, as the clock is set in between."""

POLL = 0.1
"""Seconds between two looks at processes that are told to end."""

ROUNDS = 20
"""How often it is looked for processes that were started while others were being killed."""


class Owner(NamedTuple):
    """A process, by what no other has: machine, number and time of its start, in seconds since 1970."""

    host: str
    pid: int
    started: float

    @classmethod
    def me(cls) -> "Owner":
        """Return this process."""
        from psutil import Process

        return cls(socket.gethostname(), os.getpid(), Process().create_time())

    @property
    def here(self) -> bool:
        """Whether it is, or was, on this machine."""
        return self.host == socket.gethostname()

    def process(self) -> "Process | None":
        """Return the process while it lives on this machine; another one that has its number by now is not it."""
        from psutil import STATUS_ZOMBIE, Error, Process

        if not self.here:
            return None
        try:
            process = Process(self.pid)
            same = abs(process.create_time() - self.started) < SAME_START and process.status() != STATUS_ZOMBIE
        except Error:
            return None
        return process if same else None


def begin(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a process in a group of its own, which prints to the end of a file.

    Raises:
        OSError: where it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603  # the command is this project's own, and no shell reads it
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def marked(mark: str) -> "list[Process]":
    """Return the living processes whose MARK is this one, or begins with it and a colon."""
    from psutil import STATUS_ZOMBIE, Error, process_iter

    found = []
    for process in process_iter():
        with suppress(Error, OSError):
            said = process.environ().get(MARK, "")
            mine = said == mark or said.startswith(f"{mark}:")
            if mine and process.pid != os.getpid() and process.status() != STATUS_ZOMBIE:
                found.append(process)
    return found


def end(mark: str, patience: float, hurry: threading.Event | None = None) -> int:
    """End all processes of a mark: by SIGINT, so that they save what they have, and after a while by SIGKILL.

    Args:
        mark: what they carry.
        patience: seconds from the one to the other.
        hurry: cuts them short once it is set.

    Returns:
        How many there were at first.
    """
    from psutil import Error

    first = marked(mark)
    for process in first if patience else ():
        with suppress(Error):
            process.send_signal(signal.SIGINT)
    # It is looked for them, and not waited: psutil would take a child's exit code, which is its parent's to know.
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and marked(mark) and not (hurry and hurry.is_set()):
        time.sleep(POLL)
    for _ in range(ROUNDS):
        if not (left := marked(mark)):
            break
        for process in left:
            with suppress(Error):
                process.kill()
        time.sleep(POLL)
    return len(first)

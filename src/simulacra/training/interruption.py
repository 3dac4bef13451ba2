"""SIGTERM and Ctrl-C: a training stops at the end of its step, with a checkpoint; anything else stops at once."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SAME_REQUEST = 1.0
"""Seconds within which another signal is taken for the same request."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; like KeyboardInterrupt it is no error, and passes by all that handle errors.

    Args:
        signum: the signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The exit code by which a shell tells the signal: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


class _Request:
    """The one request of this process to stop, and how many trainings will hear it at the end of a step."""

    def __init__(self) -> None:
        self.signum = 0
        self.first = 0.0
        self.listeners = 0
        self.lock = threading.Lock()


_request = _Request()


def _ask(signum: int, frame: FrameType | None) -> None:
    for child in multiprocessing.active_children():
        if child.pid:
            os.kill(child.pid, signum)
    now = time.monotonic()
    # Whoever asks twice does not want to wait for the end of a step; but a terminal, a parent and a supervisor may each
    # pass on one and the same request.
    impatient = _request.signum and now - _request.first > SAME_REQUEST
    if not _request.signum:
        _request.signum, _request.first = signum, now
    if impatient or not _request.listeners:
        if multiprocessing.parent_process() is not None:
            os._exit(128 + signum)  # a worker process between two pieces of work has nobody to raise to
        raise Interrupted(signum)


@contextmanager
def handled() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` while the block runs; main thread only, a no-op elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _request.signum = 0
    former = {signum: signal.signal(signum, _ask) for signum in SIGNALS}
    try:
        yield
    finally:
        _request.signum = 0
        for signum, handler in former.items():
            signal.signal(signum, handler)


@contextmanager
def listening() -> Iterator[None]:
    """Promise to look at `requested` soon and often, so that signals wait for that."""
    with _request.lock:
        _request.listeners += 1
    try:
        yield
    finally:
        with _request.lock:
            _request.listeners -= 1


def requested() -> Interrupted | None:
    """Return the interruption to raise, where one was asked for."""
    return Interrupted(_request.signum) if _request.signum else None

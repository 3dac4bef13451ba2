"""MLflow at work in a process that forks."""

import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest

from simulacra.tracking.store import BUSY, brief, import_mlflow


def test_a_fork_waits_for_the_end_of_a_call() -> None:
    import_mlflow(5)
    at_work = threading.Event()

    def call() -> None:
        with BUSY:
            at_work.set()
            time.sleep(0.5)

    threading.Thread(target=call).start()
    at_work.wait()
    began = time.monotonic()
    child = os.fork()
    if not child:
        # Nobody else is in here, so the lock is free.
        os._exit(0 if BUSY.acquire(blocking=False) else 1)
    _, status = os.waitpid(child, 0)
    assert time.monotonic() - began > 0.4 and os.waitstatus_to_exitcode(status) == 0
    assert BUSY.acquire(blocking=False)
    BUSY.release()


def test_a_nested_error_is_one_line_of_bearable_length() -> None:
    line = brief(ValueError("first\n  second " + 1000 * "x"))
    assert line.startswith("ValueError: first second x") and len(line) < 330 and "\n" not in line


@pytest.mark.parametrize(
    "uri", ["http://me:secret@host:1/api?x=1", "http://me:p@secret@host:1/api", "http://me:pa/secret@host:1/api"]
)
def test_an_error_is_told_without_the_password(uri: str) -> None:
    line = brief(ConnectionError(f"request to {uri} failed, url: /api?token=secret (refused)"))
    assert line == "ConnectionError: request to http://host:1/api failed, url: /api (refused)"


def test_what_mlflow_imports_in_passing_is_there_when_its_import_is_over() -> None:
    code = "import sys; from simulacra.tracking.store import import_mlflow; import_mlflow(5); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mlflow.tracking" in loaded and ("IPython" in loaded or find_spec("IPython") is None)

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from simulacra.training import interruption
from simulacra.training.interruption import Interrupted


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once_where_nobody_listens(signum: int, code: int) -> None:
    former = signal.getsignal(signum)
    with pytest.raises(Interrupted) as caught, interruption.handled():
        os.kill(os.getpid(), signum)
    assert caught.value.exit_code == code
    assert signal.getsignal(signum) is former


def test_a_listener_is_asked_and_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SAME_REQUEST", 0.2)
    with interruption.handled(), interruption.listening():
        assert interruption.requested() is None
        os.kill(os.getpid(), signal.SIGTERM)
        found = interruption.requested()
        assert found is not None and found.signum == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # the same request by another way
        time.sleep(0.3)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
    with interruption.handled():
        assert interruption.requested() is None


def test_other_threads_leave_the_handlers_alone() -> None:
    seen = []

    def work() -> None:
        with interruption.handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_worker_processes_hear_of_it() -> None:
    code = """
import multiprocessing, os, signal, time
from simulacra.training import interruption

def work():
    time.sleep(60)

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=work)
    try:
        with interruption.handled():
            worker.start()
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGTERM)
    except interruption.Interrupted:
        worker.join(5)
        print(worker.exitcode)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() not in ("", "None"), done.stderr

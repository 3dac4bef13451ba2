"""Python's search for garbage, spared where there is none: a short command would spend a third of its time on it."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_searched_for() -> Iterator[None]:
    """Import libraries and build what stays; nothing of it is gone through again, not even when the process ends.

    Torch and MLflow are two thirds of a million objects. Python goes through them again and again while they are
    imported, and once more at its exit, though the system takes all their memory back at once.
    """
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _keep()
        atexit.unregister(_keep)
        atexit.register(_keep)
        if searched:
            gc.enable()


def _keep() -> None:
    # Of Triton all must be gone when the interpreter is: what is left, its bindings report by the page.
    if "triton" not in sys.modules:
        gc.freeze()

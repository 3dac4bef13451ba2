"""Two runs at once in one project never work on the same thing: one lock a dataset, and one a `<dataset>.<family>`."""

import atexit
import json
import logging
import os
import socket
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from kedro.framework.hooks import hook_impl

from simulacra.errors import SimulacraError
from simulacra.files import write_record
from simulacra.state import state_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)


class LockHooks:
    """Takes the locks of all that a run works on before it begins, and frees them when it ends, however it ends."""

    def __init__(self) -> None:
        self._locks = Locks()

    # After the checks of ProjectHooks, which is registered later, and before any run is tracked.
    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: "Pipeline") -> None:
        """Take the locks of the namespaces in the pipeline."""
        self._locks.take(state_folder() / "locks", sorted({str(node.namespace) for node in pipeline.nodes}))

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Free the locks."""
        self._locks.free()

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Free the locks."""
        self._locks.free()


class Locks:
    """Locks that one process holds; the system frees them with the process, should it be killed."""

    def __init__(self) -> None:
        self._held: dict[Path, BaseFileLock] = {}

    def take(self, folder: Path, names: Iterable[str]) -> None:
        """Take the locks of these names, all or none.

        Raises:
            SimulacraError: where another process holds one; names the process and when it began.
        """
        self.free()  # an interrupted run in a notebook, whose process lives on, has freed nothing
        atexit.register(self.free)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name in names:
                self._take(folder, name)
        except BaseException:
            self.free()
            raise

    def _take(self, folder: Path, name: str) -> None:
        lock = FileLock(folder / f"{name}.lock")
        place = folder / f"{name}.json"
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise SimulacraError(f"{name} is being worked on by {_holder(place)}: wait for it or stop it") from error
        if place.exists():
            logger.info("taking over the lock of %s: %s is gone", name, _holder(place))
        self._held[place] = lock
        began = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}"
        write_record(place, {"pid": os.getpid(), "host": socket.gethostname(), "began": began})

    def free(self) -> None:
        """Free all locks; in a forked process, which holds none of them, nothing happens."""
        held, self._held = self._held, {}
        for place, lock in held.items():
            if lock.is_locked:
                place.unlink(missing_ok=True)
                lock.release()


def _holder(place: Path) -> str:
    """Return in words who holds, or held, a lock, as far as the note beside it says so."""
    try:
        note: dict[str, Any] = json.loads(place.read_text())
        host = "" if note["host"] == socket.gethostname() else f" on {note['host']}"
        return f"process {note['pid']}{host} since {note['began']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

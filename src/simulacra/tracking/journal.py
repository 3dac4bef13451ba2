"""A run's tracking records on disk: only ever appended to, sent from there, and kept until MLflow has them all."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One thing that happened: `op` says what, `run` to which run, `time` when, in milliseconds since 1970."""

PLACE = "SIMULACRA_TRACKING_JOURNAL"
"""Environment variable that tells the worker processes of a run where its journal lies."""


class Journal:
    """One run's folder: the records, the files to be logged, how far sending has come, and a lock.

    Whoever runs or replays it holds the lock, and the operating system lets go of it when that process dies. So a
    journal that can be locked belongs to nobody any more.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self.folder = folder
        self._records = folder / "records.jsonl"
        self._progress = folder / "progress.json"
        self._files = folder / "files"
        self._lock = FileLock(folder / "lock", thread_local=False)

    @classmethod
    def begin(cls, root: Path, header: Mapping[str, Any]) -> "Journal":
        """Make and lock a journal of one's own; its first record is the header.

        Raises:
            OSError: where the folder cannot be written to.
        """
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{secrets.token_hex(4)}"
        (root / name / "files").mkdir(parents=True)
        journal = cls(root / name)
        journal._lock.acquire(timeout=0)
        # A journal is seen by others once it has records, and by then it is locked.
        journal.append({"op": "header", **header})
        return journal

    @classmethod
    def earlier(cls, root: Path) -> "list[Journal]":
        """Return the journals below a folder, oldest first."""
        return [cls(path.parent) for path in sorted(root.glob("*/records.jsonl"))]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record, in one write that lands whole however many processes write at once.

        Raises:
            OSError: where the disk is full or the folder gone.
        """
        line = (json.dumps(record, default=str) + "\n").encode()
        handle = os.open(self._records, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if (written := os.write(handle, line)) < len(line):
                raise OSError(f"only {written} of {len(line)} bytes could be written to {self._records}")
        finally:
            os.close(handle)

    def keep(self, path: Path) -> str:
        """Keep a file as it is now, and return its place in the journal; a link, or a copy on another disk."""
        place = self._files / secrets.token_hex(8) / path.name
        place.parent.mkdir()
        try:
            place.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, place)
        return place.relative_to(self.folder).as_posix()

    def drop(self, place: str) -> None:
        """Let go of a file that was kept."""
        shutil.rmtree((self.folder / place).parent, ignore_errors=True)

    def read(self, start: int) -> tuple[list[Record], int]:
        """Return the whole records from a byte onwards, and the byte after them.

        A record cut short by a full disk or a kill is an empty one.
        """
        with self._records.open("rb") as file:
            file.seek(start)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        return [_parse(line) for line in whole.splitlines()], start + len(whole)

    def header(self) -> Record:
        """Return the first record; an empty one where there is none."""
        return next(iter(self.read(0)[0]), {})

    def note(self, sent: int, runs: Mapping[str, str]) -> None:
        """Remember how many records are sent, and the id that MLflow gave each run."""
        scratch = self._progress.with_suffix(".new")
        scratch.write_text(json.dumps({"sent": sent, "runs": runs}))
        scratch.replace(self._progress)

    def noted(self) -> tuple[int, dict[str, str]]:
        """Return what was noted last; nothing sent and no runs where that cannot be read."""
        try:
            progress = json.loads(self._progress.read_text())
            return progress["sent"], progress["runs"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, {}

    def take(self) -> bool:
        """Lock it if nobody else runs or replays it; say whether that is so and there is anything in it."""
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=0)
        except (Timeout, OSError):
            return False
        if self._records.exists():
            return True
        self.remove()
        return False

    def release(self) -> None:
        """Unlock it."""
        self._lock.release(force=True)

    def remove(self) -> None:
        """Delete it; the records last, so that what is left of a removal cut short is removed by the next run."""
        shutil.rmtree(self._files, ignore_errors=True)
        self._records.unlink(missing_ok=True)
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def _parse(line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}

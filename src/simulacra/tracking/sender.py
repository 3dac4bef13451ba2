"""The thread that sends journals to MLflow: those of earlier runs first, then, as it grows, this run's own."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from simulacra.tracking.config import TrackingConfig
from simulacra.tracking.joining import note_joined
from simulacra.tracking.journal import Journal, Record
from simulacra.tracking.ledger import PARENT, Ledger
from simulacra.tracking.store import BUSY, Store, brief, import_mlflow, warn

logger = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks at a journal that has nothing new."""

IMPORT_WAIT = 20.0
"""Seconds that a run waits at its beginning for the import of MLflow."""

LONGEST_WAIT = 25.0
"""Seconds that a run waits in all, at its beginning and its end, even if a slow server still gets on."""


class Sender:
    """Sends in the background; a run waits for it only at its end, and then within limits.

    Args:
        root: folder of all journals.
        journal: this run's own, locked; None where there is no run, and only earlier ones are to be sent.
        settings: content of mlflow.yml.
        project: folder that relative sqlite paths and local artifacts lie in.
    """

    def __init__(self, root: Path, journal: Journal | None, settings: TrackingConfig, project: Path) -> None:
        self._root, self._journal = root, journal
        self._settings, self._project = settings, project
        self._imported, self._closing = threading.Event(), threading.Event()
        self._progressed = time.monotonic()
        self._waited = 0.0
        self._told = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self) -> None:
        """Begin.

        MLflow's import is waited for: it would compete with the run's own imports for the interpreter, and two threads
        that import the same packages in different orders can find half of one.
        """
        began = time.monotonic()
        self._thread.start()
        self._imported.wait(IMPORT_WAIT)
        self._waited = time.monotonic() - began

    def finish(self) -> None:
        """Wait until all is sent, as long as it gets on; what is left then, the next run sends.

        It is never waited for longer than `LONGEST_WAIT` in all, or than the `wait` of mlflow.yml where that is more.
        """
        self._closing.set()
        longest = max(LONGEST_WAIT, self._settings.wait) - self._waited
        began = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.05)
            now = time.monotonic()
            if now - max(began, self._progressed) > self._settings.wait or now - began > longest:
                self._tell("it is too slow")
                return
        self._release()

    def _work(self) -> None:
        try:
            self._import()
            store = Store(self._settings, self._project)
            self._replay(store)
            if self._journal:
                self._deliver(store, self._journal, alive=True)
        except Exception as error:
            # Anything may come out of a server, a database or a proxy, and none of it is worth a training.
            with BUSY:
                self._tell(brief(error))
        finally:
            if self._closing.is_set():
                self._release()

    def _import(self) -> None:
        try:
            import_mlflow(self._settings.timeout)
        finally:
            self._imported.set()

    def _replay(self, store: Store) -> None:
        """Send what earlier runs could not; journals that cannot be sent, or not to this store, stay where they are.

        Raises:
            Exception: what the first journal failed at, where MLflow does not answer at all.
        """
        self._progressed = time.monotonic()
        elsewhere, stuck = [], []
        for journal in (one for one in Journal.earlier(self._root) if one.take()):
            try:
                uri = journal.header().get("uri")
                if uri == self._settings.public_uri:
                    self._deliver(store, journal, alive=False)
                else:
                    elsewhere.append(str(uri))
            except Exception as error:
                # What is wrong with one journal must not keep the others from being sent.
                if not store.answers():
                    raise
                stuck.append(f"{journal.folder.name}: {brief(error)}")
            finally:
                journal.release()
        if elsewhere:
            warn(
                "%d earlier run(s) wait in %s to be tracked at %s; a run with that tracking_uri sends them",
                len(elsewhere),
                self._root,
                ", ".join(sorted(set(elsewhere))),
            )
        if stuck:
            warn(
                "%d earlier run(s) cannot be tracked, the oldest of them %s; their records stay in %s and the next run "
                "tries again",
                len(stuck),
                stuck[0],
                self._root,
            )

    def _deliver(self, store: Store, journal: Journal, *, alive: bool) -> None:
        """Send a journal from where the last attempt came to, and delete it; a killed run's open runs end as KILLED."""
        ledger, (sent, runs) = Ledger(), journal.noted()
        experiment = journal.header().get("experiment", self._settings.experiment)

        def send(call: Record) -> None:
            key = call["run"]
            if "join" in call:
                runs[key] = store.join(call, experiment, self._root / "joining.lock")
                note_joined(self._root, call["join"], runs[key])
            elif call["op"] == "create":
                unique, parent = f"{journal.folder.name}/{key}", runs.get(PARENT)
                runs[key] = store.create(call, unique, experiment, parent, again=not alive)
            else:
                store.send(call, runs[key], journal.folder)
            self._progressed = time.monotonic()

        for number, record in enumerate(self._records(journal, alive=alive), start=1):
            calls = ledger.calls(record)
            if number <= sent or not calls:
                continue
            for call in calls:
                send(call)
            journal.note(number, runs)
            if record["op"] == "file":
                journal.drop(record["file"])
        for call in () if ledger.ended else ledger.killed():
            send(call)
        journal.remove()

    def _records(self, journal: Journal, *, alive: bool) -> Iterator[Record]:
        """Yield the records there are, and for a run that still lives those to come."""
        offset, last = 0, False
        while not last:
            last = not alive or self._closing.is_set()
            records, offset = journal.read(offset)
            yield from records
            if not records:
                self._closing.wait(POLL)

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "MLflow tracking is off for the rest of this run: %s; all records are kept in %s and the next run "
                "sends them",
                reason,
                self._root,
            )

    def _release(self) -> None:
        if self._journal:
            self._journal.release()

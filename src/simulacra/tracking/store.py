"""The MLflow store: takes one call at a time, within bounded time, and never the same run twice."""

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from simulacra import garbage
from simulacra.errors import SimulacraError
from simulacra.tracking.config import TrackingConfig, without_secrets
from simulacra.tracking.journal import Record

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from requests import Response

logger = logging.getLogger(__name__)

KEY = "simulacra.key"
"""Tag by which a run is found again that was created without its id being noted."""

REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
"""MLflow's error codes that are about one call, and would be the same however often it is made."""

REFUSED_UPLOADS = (413, 414, 415)
"""HTTP status codes that are about one file, whoever answers so: too large, too long a name, the wrong type."""

SERVER_PAUSES = (1.0,)
"""Seconds before each further try. A connection that idled for hours may fail once, and then not again."""

SQLITE_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try: other programs than this one may hold the database for a while."""

LOCK_WAIT = 60
"""Seconds that one of our processes waits for another's turn at the same sqlite file."""

LONGEST_TAG = 5000
"""Characters of a tag's value that every MLflow store takes."""

FORK_WAIT = 15.0
"""Seconds that the fork of a process waits for the call that MLflow is just at."""

BUSY = threading.RLock()
"""Held while MLflow is at work in this process."""

T = TypeVar("T")


def import_mlflow(timeout: int) -> None:
    """Import MLflow, told beforehand to give up early.

    Args:
        timeout: seconds that a server may take for one answer.
    """
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    bounds = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": str(timeout),
        # MLflow's own second try would create a second run where only the first answer was lost.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    }
    for name, value in bounds.items():
        os.environ.setdefault(name, value)
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _import()


@functools.cache
def _import() -> None:
    with garbage.not_searched_for():
        import filelock  # noqa: F401
        import mlflow.tracking  # noqa: F401

        # MLflow imports it when it looks whether this is a notebook. Matplotlib, in the run's own thread, looks it up
        # among what is imported and stumbles over half of it.
        with suppress(ImportError):
            import IPython  # noqa: F401

    _keep_forks_off()


def _keep_forks_off() -> None:
    """Let a fork wait for the end of a call: the new process would inherit locks that nobody there releases.

    What other libraries do before a fork must come after this, lest they hold what the call is waiting for; so this
    is to be said after their import.
    """
    held: list[bool] = []

    def before() -> None:
        if BUSY.acquire(timeout=FORK_WAIT):
            held.append(True)

    def after() -> None:
        if held:
            held.pop()
            BUSY.release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)


class Store:
    """MLflow behind one tracking URI.

    Writers of one sqlite file, in this and other processes, take turns by a lock beside it.

    Args:
        settings: content of mlflow.yml.
        project: folder that relative sqlite paths and local artifacts lie in.
    """

    def __init__(self, settings: TrackingConfig, project: Path) -> None:
        from filelock import FileLock
        from mlflow.tracking import MlflowClient

        uri, database = settings.address(project), settings.database(project)
        self._turn: AbstractContextManager[Any] = nullcontext()
        self._pauses: tuple[float, ...] = SERVER_PAUSES
        self._artifacts: str | None = None
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._turn = FileLock(f"{database}.lock", timeout=LOCK_WAIT)
            self._pauses, self._artifacts = SQLITE_PAUSES, (project / "mlruns").as_uri()
        self._client = self._persist(lambda _: MlflowClient(uri))
        self._experiments: dict[str, str] = {}
        self._told: dict[str, set[str]] = {}

    def create(self, record: Record, key: str, experiment: str, parent: str | None, *, again: bool) -> str:
        """Create a run, and return its id.

        Without a run all that is said of it would be lost, so a refusal is an error here.

        Args:
            record: the run's name, tags and time.
            key: what no other run of any journal has.
            experiment: name of the experiment; made if need be.
            parent: id of the parent run, if there is one.
            again: it may have been created before, by a process that did not live to note its id.

        Raises:
            SimulacraError: where the experiment lies among the deleted ones.
            Exception: whatever MLflow and the way there come up with.
        """
        tags = {KEY: key} | {name: value[:LONGEST_TAG] for name, value in record["tags"].items()}
        tags |= {"mlflow.parentRunId": parent} if parent else {}

        def find_or_create(tried: bool) -> "Run":
            place = self._experiment(experiment)
            found = self._find(place, key) if again or tried else None
            return found or self._client.create_run(place, record["time"], tags, record["name"])

        return str(self._persist(find_or_create).info.run_id)

    def join(self, record: Record, experiment: str, lock: Path) -> str:
        """Create the run that several processes share, or find it where another one has, and return its id.

        One that had ended goes on; not where it ended after this process began, whose records then come late. What
        parameters it has stay: MLflow keeps the first value, and processes whose nodes differ write 5 and 5.0 for one.

        Args:
            record: the run's name, tags and time, and the key that they share.
            experiment: name of the experiment; made if need be.
            lock: file by which the processes take turns: a server would let two create at once.

        Raises:
            SimulacraError: where the experiment lies among the deleted ones.
            Exception: whatever MLflow and the way there come up with.
        """
        from filelock import FileLock

        key = f"joined/{record['join']}"

        def find_or_create(_: bool) -> "Run":
            place = self._experiment(experiment)
            if found := self._find(place, key, deleted=False):
                if found.info.status != "RUNNING" and (found.info.end_time or 0) <= record["time"]:
                    self._client.update_run(found.info.run_id, "RUNNING")
                self._told[found.info.run_id] = set(found.data.params)
                return found
            return self._client.create_run(place, record["time"], {KEY: key} | record["tags"], record["name"])

        with FileLock(lock, timeout=LOCK_WAIT):
            return str(self._persist(find_or_create).info.run_id)

    def answers(self) -> bool:
        """Tell whether MLflow answers at all; where it does, what failed is about what was sent."""
        try:
            with BUSY, self._turn:
                self._client.search_experiments(max_results=1)
        except Exception:
            return False
        return True

    def ask(self, action: Callable[["MlflowClient"], T]) -> T:
        """Return what an action makes of the client; where that fails, it is tried again after a pause.

        The action may have been done before, without its answer being heard.
        """
        return self._persist(lambda _: action(self._client))

    def send(self, call: Record, run: str, folder: Path) -> None:
        """Make a call; one that MLflow refuses for good is warned about and left out.

        Args:
            call: what the ledger made of a record.
            run: id of the run.
            folder: the journal, that files are kept in.
        """
        try:
            self._persist(lambda _: self._make(call, run, folder))
        except Exception as error:
            if not is_refusal(error):
                raise
            if halves := _halves(call):
                for half in halves:
                    self.send(half, run, folder)
            else:
                warn("MLflow refuses %s: %s", _describe(call), brief(error))

    def _make(self, call: Record, run: str, folder: Path) -> None:
        if call["op"] == "batch":
            self._batch(call, run)
        elif call["op"] == "file":
            self._client.log_artifact(run, str(folder / call["file"]), call["place"])
        elif call["op"] == "dict":
            self._client.log_dict(run, call["data"], call["name"])
        elif call["op"] == "inputs":
            self._inputs(call, run)
        elif not ("joined" in call and self._ended_later(call, run)):
            self._client.set_terminated(run, call["status"], call["time"])

    def _ended_later(self, call: Record, run: str) -> bool:
        """Tell whether another process ended the run after this one did: the last one has the last word."""
        return (self._client.get_run(run).info.end_time or 0) > int(call["time"])

    def _batch(self, call: Record, run: str) -> None:
        from mlflow.entities import Metric, Param, RunTag

        told = self._told.get(run, set())
        self._client.log_batch(
            run,
            metrics=[Metric(key, value, call["time"], step) for key, value, step in call.get("metrics", ())],
            params=[Param(key, value) for key, value in call.get("params", ()) if key not in told],
            tags=[RunTag(key, value[:LONGEST_TAG]) for key, value in call.get("tags", ())],
            synchronous=True,
        )

    def _inputs(self, call: Record, run: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one["name"], one["digest"], "local", one["source"]),
                [InputTag("mlflow.data.context", one["context"])],
            )
            for one in call["inputs"]
        ]
        self._client.log_inputs(run, inputs)

    def _experiment(self, name: str) -> str:
        """Return the experiment's id; another process may make it at the same moment.

        Raises:
            SimulacraError: where the experiment lies among the deleted ones.
        """
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                raise SimulacraError(
                    f"the experiment {name!r} was deleted; restore it, or name another in mlflow.yml for later runs"
                )
            made = found.experiment_id if found else self._client.create_experiment(name, self._artifacts)
            self._experiments[name] = str(made)
        return self._experiments[name]

    def _find(self, experiment: str, key: str, *, deleted: bool = True) -> "Run | None":
        from mlflow.entities import ViewType

        which = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        found = self._client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", which, max_results=1)
        return found[0] if found else None

    def _persist(self, action: Callable[[bool], T]) -> T:
        """Do it, and again after a pause where it fails; the action is told whether it was tried before."""
        for number, pause in enumerate(self._pauses):
            try:
                with BUSY, self._turn:
                    return action(number > 0)
            except Exception as error:
                if isinstance(error, SimulacraError) or is_refusal(error):
                    raise
            time.sleep(pause)
        with BUSY, self._turn:
            return action(True)


def warn(message: str, *arguments: object) -> None:
    """Log a warning from the sending thread; a fork waits for it too, since what prints it has locks of its own.

    The run's own thread must not ask for it: it would wait for the call that hangs.
    """
    with BUSY:
        logger.warning(message, *arguments)


def brief(error: BaseException) -> str:
    """Return an error as one line of bearable length without secrets; libraries nest theirs several deep."""
    text = without_secrets(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}{'…' if len(text) > 300 else ''}"


def is_refusal(error: Exception) -> bool:
    """Tell whether an error is about this one call, and not about the server or the way there.

    A proxy may answer 400 to everything, so MLflow's own word is asked for.
    """
    from mlflow.exceptions import RestException

    if (response := getattr(error, "response", None)) is not None:
        return response.status_code in REFUSED_UPLOADS or _error_code(response) in REFUSALS
    code = getattr(error, "error_code", None)
    # MLflow gives this code to any answer 400, also to one that does not come from MLflow.
    unsure = code == "BAD_REQUEST" and not isinstance(error, RestException)
    return isinstance(error, FileNotFoundError) or (code in REFUSALS and not unsure)


def _error_code(response: "Response") -> object:
    """Return what MLflow's server says is wrong; None where another one answers."""
    try:
        said = response.json()
    except ValueError:
        return None
    return said.get("error_code") if isinstance(said, dict) else None


def _halves(call: Record) -> list[Record]:
    """Return a batch in two parts; nothing where it cannot be parted."""
    for kind in ("metrics", "params", "tags"):
        items = call.get(kind, ())
        if len(items) > 1:
            middle = len(items) // 2
            return [call | {kind: items[:middle]}, call | {kind: items[middle:]}]
    return []


def _describe(call: Record) -> str:
    """Return what a person would call it."""
    keys: Iterable[str] = (item[0] for kind in ("metrics", "params", "tags") for item in call.get(kind, ()))
    what = next(iter(keys), call.get("file") or call.get("name") or call["op"])
    return f"{what} of {call['run'] or 'the parent run'}"

"""What a run tells its journal: parameters, metrics, curves, files, times, and how each node ended."""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from simulacra.experiments import data_root, flat
from simulacra.incremental import Unchanged
from simulacra.tracking.config import TRACKING, TrackingConfig
from simulacra.tracking.content import SPEAKING, artifact_place, content, plain, split_inputs
from simulacra.tracking.joining import parent_key
from simulacra.tracking.journal import PLACE, Journal
from simulacra.tracking.ledger import PARENT
from simulacra.tracking.sender import Sender
from simulacra.tracking.store import brief
from simulacra.training.history import LISTENER

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

logger = logging.getLogger(__name__)

BATCH = 1000
"""Largest number of metrics, and of parameters over ten, that MLflow takes in one call."""

FAMILY_DEPTH = 2
"""A namespace of so many parts, `<dataset>.<family>`, has a child run of its own."""


class TrackingHooks:
    """Writes down what a run does, for MLflow; nothing that goes wrong here, or there, stops the run.

    Attributes:
        reused: names of datasets that were up to date, so that no node of this run makes them, by the namespace of
            their run. Set before a run; its numbers are those on disk, so that every child has the same keys.
    """

    def __init__(self) -> None:
        self.reused: dict[str, list[str]] = {}
        self._settings = TrackingConfig()
        self._environment, self._project, self._root = "", Path(), Path()
        self._journal: Journal | None = None
        self._sender: Sender | None = None
        self._owner = 0
        self._catalog: DataCatalog
        self._began: dict[str, float] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._heard: dict[str, set[tuple[str, int]]] = {}

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read mlflow.yml."""
        loader = context.config_loader
        self._settings = TrackingConfig.parse(loader["mlflow"])
        self._environment = str(context.env or "local")
        self._project = Path(context.project_path)
        self._root = data_root(loader, self._project) / ".simulacra" / "tracking"
        os.environ[TRACKING] = f"{self._project}\n{self._settings.model_dump_json()}"

    # Last of all hooks, so that a run that another of them refuses is not tracked as one that began.
    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: "Pipeline", catalog: "DataCatalog") -> None:
        """Begin a journal, with the parent run and one child for each family in the pipeline."""
        self.abandon()
        os.environ.pop(PLACE, None)
        self._journal, self._catalog, self._began, self._unsaved = None, catalog, {}, {}
        self._heard = {}
        with _harmless("this run is not tracked"):
            header = {"uri": self._settings.public_uri, "experiment": self._settings.experiment}
            self._journal = Journal.begin(self._root, header)
            self._owner, os.environ[PLACE] = os.getpid(), str(self._journal.folder)
            self._sender = Sender(self._root, self._journal, self._settings, self._project)
            self._sender.start()
            self._open(run_params, pipeline)
        self.reused = {}

    @hook_impl
    def before_dataset_loaded(self, node: "Node") -> None:
        """Note that the node has begun: its inputs may be what it fails at, and of that Kedro tells no node's hook."""
        self._begin(node)

    @hook_impl
    def before_node_run(self, node: "Node", catalog: "DataCatalog") -> None:
        """Start the node's clock, and listen where it draws curves."""
        self._catalog = catalog
        self._begin(node)
        draws_curves = any(name.endswith(".history") for name in node.outputs)
        LISTENER.set(partial(self._hear, _namespace(node)) if draws_curves else None)
        self._began[node.name] = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: "Node") -> None:
        """Log the node's time."""
        namespace = _namespace(node)
        seconds = time.perf_counter() - self._began[node.name]
        label = node.name.removeprefix(f"{namespace}.") if namespace else node.name
        self._metrics(namespace, [(f"seconds/{label}", seconds, 0)])
        self._done_with(node, "")

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: "Node") -> None:
        """Log what a saved dataset says, and the file itself; a node whose last output this was is done."""
        namespace = _namespace(node)
        with _harmless(f"MLflow will lack {dataset_name}"):
            if isinstance(data, Unchanged):
                self._record("reused", namespace, node=node.name)
                self._say(namespace, dataset_name)
            else:
                self._say(namespace, dataset_name, data)
                self._file(namespace, dataset_name)
        self._done_with(node, dataset_name)

    @hook_impl
    def on_node_error(self, error: Exception, node: "Node") -> None:
        """Mark the run that the node belongs to, and no other child, as failed."""
        self._record("failed", _namespace(node), node=node.name, error=_said_by(error))

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Mark the parent as failed, and families with a node at work; those still waiting were killed by it."""
        self._finish(parent="FAILED", children="KILLED", error=_said_by(error))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close every run that is still open."""
        self._finish(parent="FINISHED", children="FINISHED")

    def abandon(self) -> None:
        """Mark every run that is still open as killed; Kedro tells no hook of an interruption."""
        self._finish(parent="KILLED", children="KILLED")

    def catch_up(self) -> None:
        """Send what earlier runs could not, where there is nothing to run; costs nothing where all is sent."""
        if Journal.earlier(self._root):
            sender = Sender(self._root, None, self._settings, self._project)
            sender.start()
            sender.finish()

    def _open(self, run_params: dict[str, Any], pipeline: "Pipeline") -> None:
        parameters: dict[str, Any] = self._catalog.load("parameters")
        nodes = Counter(_namespace(node) for node in pipeline.nodes)
        datasets = sorted({str(node.namespace).split(".")[0] for node in pipeline.nodes if node.namespace})
        resolved = {name: plain(parameters[name]) for name in ("seed", *datasets) if name in parameters}
        title = " ".join(sorted(run_params["pipeline_names"] or datasets))
        tags = self._tags(run_params, title)
        self._record("create", PARENT, nodes=nodes[PARENT], **_parent(title, tags))
        self._parameters(PARENT, resolved)
        self._record("dict", PARENT, name="resolved_parameters.yml", data=resolved)
        families = sorted(nodes.keys() - {PARENT})
        for namespace in families:
            dataset, family = namespace.split(".")
            child_tags = tags | {"dataset": dataset, "family": family}
            self._record("create", namespace, name=namespace, tags=child_tags, nodes=nodes[namespace])
            block = resolved[dataset]
            own = {key: block[key] for key in ("split", "generation") if key in block} | block[family]
            self._parameters(namespace, {"dataset": dataset, "seed": resolved["seed"]} | own)
        splits = {f"{dataset}.split_record" for dataset in datasets} - pipeline.all_outputs()
        for name in sorted(splits):
            if self._catalog.exists(name):
                self._say(PARENT, name)
        for namespace in (PARENT, *families):
            for name in self.reused.get(namespace, ()):
                self._say(namespace, name)

    def _tags(self, run_params: dict[str, Any], title: str) -> dict[str, str]:
        from simulacra.provenance import git_commit

        return {
            "kedro.run_id": str(run_params["run_id"]),
            "kedro.env": self._environment,
            "kedro.pipelines": title,
            "kedro.namespaces": " ".join(sorted(run_params["namespaces"] or [])),
            "mlflow.source.name": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "mlflow.source.git.commit": git_commit() or "unknown",
        }

    def _begin(self, node: "Node") -> None:
        if node.name not in self._unsaved:
            self._unsaved[node.name] = {*node.outputs, ""}
            self._record("begin", _namespace(node), node=node.name)

    def _done_with(self, node: "Node", what: str) -> None:
        """Strike an output off the node's list, or "" for its work itself; with the last one the node is done."""
        left = self._unsaved[node.name]
        left.discard(what)
        if not left:
            self._record("done", _namespace(node), node=node.name)

    def _say(self, namespace: str, dataset_name: str, data: Any = None) -> None:
        """Log what MLflow can chart of a dataset: as it is given, or else as it lies on disk."""
        dataset, name = dataset_name.split(".", maxsplit=1)[0], dataset_name.rsplit(".", 1)[-1]
        if name not in (*SPEAKING, "split_record"):
            return
        if data is None:
            data = self._catalog.load(dataset_name)
        if name == "split_record":
            self._record("inputs", PARENT, dataset=dataset, inputs=split_inputs(dataset, data))
            return
        said = content(name, data)
        # What was heard while it happened is not said again.
        heard = self._heard.pop(namespace, set()) if name == "history" else set()
        self._metrics(namespace, [point for point in said.metrics if (point[0], point[2]) not in heard])
        self._batches(namespace, "tags", list(said.tags.items()))

    def _hear(self, namespace: str, step: int, split: str, values: Mapping[str, float]) -> None:
        """Log a point of the curves while they are drawn."""
        self._heard.setdefault(namespace, set()).update((f"{split}/{name}", step) for name in values)
        self._metrics(namespace, [(f"{split}/{name}", float(value), step) for name, value in values.items()])

    def _metrics(self, namespace: str, points: list[tuple[str, float, int]]) -> None:
        self._batches(namespace, "metrics", points)

    def _parameters(self, namespace: str, block: Mapping[str, Any]) -> None:
        self._batches(namespace, "params", [(key, str(value)) for key, value in flat(block).items()])

    def _batches(self, namespace: str, kind: str, items: Sequence[Iterable[Any]]) -> None:
        size = BATCH if kind == "metrics" else BATCH // 10
        for start in range(0, len(items), size):
            self._record("batch", namespace, **{kind: items[start : start + size]})

    def _file(self, namespace: str, dataset_name: str) -> None:
        """Log a dataset's file, or all files of its folder, below the folder of its stage."""
        path = getattr(self._catalog.get(dataset_name), "_filepath", None)
        journal = self._writable()
        if path is None or journal is None:
            return
        path = Path(str(path))
        for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
            place = "/".join((artifact_place(path), *file.parent.relative_to(path.parent).parts))
            self._record("file", namespace, file=journal.keep(file), place=place)

    def _writable(self) -> Journal | None:
        """Return this run's journal; a worker process that was not forked finds it by the environment."""
        if self._journal is None and PLACE in os.environ:
            self._journal = Journal(Path(os.environ[PLACE]))
        return self._journal

    def _record(self, op: str, namespace: str, **what: Any) -> None:
        """Write it down; where that cannot be done, nothing is any more, in this process."""
        journal = self._writable()
        if journal is None:
            return
        try:
            journal.append({"op": op, "run": namespace, "time": int(1000 * time.time()), **what})
        except OSError as error:
            self._journal = None
            os.environ.pop(PLACE, None)
            logger.warning("MLflow will lack the rest of this run: %s", error)

    def _finish(self, **how: str) -> None:
        """End all runs, and see that what is written down is sent; only the process that began them does."""
        if self._sender is None or self._owner != os.getpid():
            return
        self._record("end", PARENT, **how)
        sender, self._sender, self._journal = self._sender, None, None
        os.environ.pop(PLACE, None)
        sender.finish()


@contextmanager
def _harmless(loss: str) -> Iterator[None]:
    """Turn whatever goes wrong into a warning that says what is lost by it."""
    try:
        yield
    except Exception as error:
        logger.warning("%s: %s", loss, brief(error))


def _namespace(node: "Node") -> str:
    """Return `<dataset>.<family>` for a family's node, PARENT for any other."""
    namespace = str(node.namespace or "")
    return namespace if len(namespace.split(".")) == FAMILY_DEPTH else PARENT


def _parent(title: str, tags: dict[str, str]) -> dict[str, Any]:
    """Return name and tags of the parent run; one that several processes join has what is the same in them all."""
    if (key := parent_key()) is None:
        return {"name": title, "tags": tags}
    shared = ("kedro.env", "mlflow.source.git.commit")
    return {"name": key, "join": key, "tags": {name: tags[name] for name in shared}}


def _said_by(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

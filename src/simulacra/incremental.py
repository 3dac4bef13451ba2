"""Nothing is done twice: a node does not run whose inputs, parameters and code are those of its last whole run."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from kedro.framework.hooks import hook_impl

from simulacra import files
from simulacra.code_version import code_version
from simulacra.experiments import data_root
from simulacra.models import FAMILIES
from simulacra.state import STATE, state_folder
from simulacra.training.config import RUNTIME

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

logger = logging.getLogger(__name__)

CHANGES_NO_RESULT = {"training": frozenset(RUNTIME), "experiment": frozenset({"families", "options"})}
CHANGES_NO_RESULT |= dict.fromkeys(FAMILIES, frozenset({"sampling"}))
CHANGES_NO_RESULT |= {"efficientnet_lite0": frozenset({"weights"}), "dinov2": frozenset({"download"})}
CHANGES_NO_RESULT |= {"inception": frozenset({"weights", "download", "download_to"})}
"""Keys that may differ without a node's result being another one, by the block in which they stand.

The node that a family's `sampling` is for reads it by its own name beside the family's block.
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
SKIPPABLE: set[Callable[..., Any]] = set()
"""Functions of which it is known what they hang on, and that can be told not to run."""

Contents = Callable[[str], str | None]
"""Gives the sha256 of the dataset of a name: None where it is not there whole, "" where it is nobody's input."""


class Unchanged(NamedTuple):
    """Stands in for a node's output that lies on disk already and need not be made again."""

    sha256: str


class Skip(NamedTuple):
    """Stands in for the inputs of a node that need not run: what its outputs hold already."""

    outputs: tuple[str, ...]


class Plan(NamedTuple):
    """What a run has to do."""

    stale: list[str]
    """Names of the nodes that may have to run, in an order in which they can."""

    reused: dict[str, list[str]]
    """Outputs of all other nodes by namespace: `<dataset>.<family>`, or "" for what a dataset's families share."""


def skippable(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a node's function return `Unchanged` for each output, and do nothing, where its inputs say `Skip`.

    The node names one output by a plain string and several by a list. Generators cannot be skipped.
    """

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Skip):
                outputs = tuple(Unchanged(sha256) for sha256 in value.outputs)
                return outputs if len(outputs) > 1 else outputs[0]
        return function(*args, **kwargs)

    SKIPPABLE.add(wrapped)
    return wrapped


class IncrementalHooks:
    """Records each node that is done, and skips one whose inputs turn out to be those of its last run after all."""

    def __init__(self) -> None:
        self._catalog: DataCatalog
        self._loaded: dict[str, dict[str, str | None]] = {}
        self._running: dict[str, _Run] = {}

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Settle where records and locks lie: with the data that they are about."""
        root = data_root(context.config_loader, Path(context.project_path))
        os.environ[STATE] = str(root / ".simulacra")

    @hook_impl
    def after_catalog_created(self, catalog: "DataCatalog") -> None:
        """Remember where the data are."""
        self._catalog = catalog

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str, node: "Node") -> None:
        """Note what is about to be loaded: another run may put something else in its place."""
        self._loaded.setdefault(node.name, {})[dataset_name] = content(dataset_name, self._catalog)

    @hook_impl
    def before_node_run(self, node: "Node", catalog: "DataCatalog") -> dict[str, Any] | None:
        """Skip the node where it is done; its inputs are known only now that all before it have run."""
        contents = functools.partial(content, catalog=catalog)
        loaded = self._loaded.pop(node.name, {})
        replaced = any(contents(name) != sha256 for name, sha256 in loaded.items())
        key = None if replaced else node_key(node, catalog, contents)
        self._running[node.name] = _Run(key, catalog, set(node.outputs))
        if catalog.load("params:force") or not _done(node, key, contents):
            return None
        logger.info("unchanged: %s", node.name)
        skip = Skip(tuple(_recorded(node.name)["outputs"][name] for name in node.outputs))
        return dict.fromkeys(node.inputs, skip)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: "Node") -> None:
        """Record the node as done once all its outputs lie on disk, and its checkpoints are of no use any more."""
        run = self._running[node.name]
        run.waiting.discard(dataset_name)
        if run.waiting or isinstance(data, Unchanged):
            return
        outputs = {name: content(name, run.catalog) for name in node.outputs}
        finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        files.write_record(_record_place(node.name), {"key": run.key, "outputs": outputs, "finished_at": finished_at})
        _clear_checkpoints(node, run.catalog)


class _Run(NamedTuple):
    """A node at work in this process: its key, where its data are, and the outputs that are not yet saved."""

    key: str | None
    catalog: "DataCatalog"
    waiting: set[str]


def make_plan(pipeline: "Pipeline", catalog: "DataCatalog") -> Plan:
    """Tell the nodes that are done, and hang on none that is not, from those that may have to run."""
    if catalog.load("params:force"):
        return Plan([node.name for node in pipeline.nodes], {})
    contents = functools.cache(functools.partial(content, catalog=catalog))
    stale: set[Node] = set()
    reused: dict[str, list[str]] = {}
    for node in pipeline.nodes:
        if pipeline.node_dependencies[node] & stale or not _done(node, node_key(node, catalog, contents), contents):
            stale.add(node)
        else:
            reused.setdefault(_family_namespace(node), []).extend(node.outputs)
    return Plan([node.name for node in pipeline.nodes if node in stale], reused)


def node_key(node: "Node", catalog: "DataCatalog", contents: Contents) -> str | None:
    """Return the hash of all that a node's result depends on; None where that cannot be told, or an input is broken."""
    if node.func not in SKIPPABLE:
        return None
    datasets = {name: contents(name) for name in node.inputs if not _is_parameter(name)}
    if None in datasets.values() or any(name not in catalog for name in node.inputs):
        return None
    parameters = {name: catalog.load(name) for name in node.inputs if _is_parameter(name)}
    material = {
        "code": code_version(node.func, frozenset(node.tags & FAMILIES.keys())),
        "wiring": [node.inputs, node.outputs],
        "inputs": datasets,
        "parameters": {name: _telling(name.rsplit(".", 1)[-1], value) for name, value in parameters.items()},
        "outside": [_outside(value) for value in parameters.values()],
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True, default=str).encode()).hexdigest()


def content(name: str, catalog: "DataCatalog") -> str | None:
    """Return the sha256 of a dataset; None where it is not whole or cannot tell, "" for a folder of checkpoints."""
    from simulacra.datasets import CheckpointFolder

    dataset = catalog.get(name)
    if isinstance(dataset, CheckpointFolder):
        return ""
    fingerprint: Callable[[], str | None] | None = getattr(dataset, "fingerprint", None)
    return fingerprint() if fingerprint else None


def _done(node: "Node", key: str | None, contents: Contents) -> bool:
    """Tell whether the node's last whole run had this key, and all that it saved lies there as it was saved."""
    record = _recorded(node.name)
    if key is None or record.get("key") != key:
        return False
    outputs = {name: contents(name) for name in node.outputs}
    return None not in outputs.values() and record.get("outputs") == outputs


def _recorded(name: str) -> dict[str, Any]:
    """Return the record of a node's last whole run, empty where there is none that can be read."""
    try:
        record = json.loads(_record_place(name).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _record_place(name: str) -> Path:
    return state_folder() / "nodes" / f"{name}.json"


def _clear_checkpoints(node: "Node", catalog: "DataCatalog") -> None:
    """Remove what a training kept on its way: the next one, under other settings, would take it for interrupted."""
    from simulacra.datasets import CheckpointFolder

    for name in node.inputs:
        if isinstance(catalog.get(name), CheckpointFolder) and any(catalog.load(name).iterdir()):
            from simulacra.training import checkpoint

            checkpoint.clear(catalog.load(name))


def _is_parameter(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")


def _telling(block: str, value: Any) -> Any:
    """Return a parameter as plain JSON, without the keys that change no result."""
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    if not isinstance(plain, Mapping):
        return plain
    left_out = CHANGES_NO_RESULT.get(block, frozenset())
    return {key: _telling(key, inner) for key, inner in plain.items() if key not in left_out}


def _outside(value: Any) -> str:
    """Return the state of what lies outside the project, where a parameter names such a thing."""
    from simulacra.data.sources import files_state, source_state
    from simulacra.editing.config import EditingConfig
    from simulacra.human.config import ResultsConfig
    from simulacra.pipelines.config import EvaluationConfig, GuestsConfig, SourceConfig, TextSourceConfig

    if isinstance(value, EditingConfig | ResultsConfig):
        return "".join(map(files_state, value.files()))
    if isinstance(value, GuestsConfig):
        return "".join(files_state(place.expanduser()) for place in value.root.values())
    if isinstance(value, EvaluationConfig):
        # Of the other extractors it is known what their files hold.
        return files_state(Path(value.dinov2.source).expanduser()) if "dinov2" in value.extractors else ""
    return source_state(value.root) if isinstance(value, SourceConfig | TextSourceConfig) else ""


def _family_namespace(node: "Node") -> str:
    """Return `<dataset>.<family>` for a family's node, "" for any other."""
    namespace = str(node.namespace or "")
    return namespace if "." in namespace else ""

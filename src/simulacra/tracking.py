"""MLflow: one parent run per `kedro run`, one child per `<dataset>.<family>`, the same keys in every child."""

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulacra.errors import SimulacraError
from simulacra.experiments import flat

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

PARENT = ""
"""Key of the parent run among the namespaces."""

BATCH = 1000
"""Largest number of metrics, and of parameters over ten, that MLflow takes in one call."""

VERDICT_METRICS = ("difference", "accuracy_real", "accuracy_augmented", "accuracy_all_real")
"""What of an augmentation verdict is a result; the rest are its conditions."""

FAMILY_DEPTH = 2
"""A namespace of so many parts, `<dataset>.<family>`, has a child run of its own."""


class TrackingConfig(BaseModel):
    """The content of mlflow.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: str = Field("sqlite:///mlflow.db", description="store; MLFLOW_TRACKING_URI comes before it")
    experiment: str = Field("simulacra", min_length=1, description="MLflow experiment of all runs")
    timeout: int = Field(5, ge=1, description="seconds that an unreachable server may cost at one call")

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "TrackingConfig":
        """Return the checked content, with MLFLOW_TRACKING_URI in its place where it is set.

        Raises:
            SimulacraError: for an unknown key or a wrong type; names it.
        """
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise SimulacraError(f"mlflow.yml: {wrong}; it has the keys {', '.join(cls.model_fields)}") from error
        return config.model_copy(update={"tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or config.tracking_uri})


class TrackingHooks:
    """Sends parameters, metrics, curves and files to MLflow; where it does not answer, the run goes on without it."""

    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._runs: dict[str, str] = {}
        self._nodes_left: Counter[str] = Counter()
        self._began: dict[str, float] = {}
        self._settings = TrackingConfig()
        self._environment = ""
        self._project = Path()

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read mlflow.yml."""
        self._settings = TrackingConfig.parse(context.config_loader["mlflow"])
        self._environment = str(context.env or "local")
        self._project = Path(context.project_path)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: "Pipeline", catalog: "DataCatalog") -> None:
        """Open the parent run and one child for each family in the pipeline."""
        self._runs, self._began = {}, {}
        self._nodes_left = Counter(_namespace(node) for node in pipeline.nodes)
        families = sorted(namespace for namespace in self._nodes_left if namespace != PARENT)
        self._safely(lambda: self._open(run_params, catalog, pipeline, families))

    @hook_impl
    def before_node_run(self, node: "Node") -> None:
        """Start the node's clock."""
        self._began[node.name] = time.perf_counter()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: "Node") -> None:
        """Log what a saved dataset says, and the file itself."""
        name = dataset_name.rsplit(".", 1)[-1]
        self._safely(lambda: self._log_numbers(_namespace(node), name, data))
        if name == "split_record":
            self._safely(lambda: self._log_split(dataset_name.split(".", maxsplit=1)[0], data))
        self._safely(lambda: self._log_file(_namespace(node), dataset_name))

    @hook_impl
    def after_node_run(self, node: "Node") -> None:
        """Log the node's time; a family whose last node this was is finished."""
        namespace = _namespace(node)
        seconds = time.perf_counter() - self._began[node.name]
        label = node.name.removeprefix(f"{namespace}.") if namespace else node.name
        self._safely(lambda: self._log_metrics(namespace, {f"seconds/{label}": seconds}))
        self._nodes_left[namespace] -= 1
        if namespace != PARENT and self._nodes_left[namespace] == 0:
            self._close(namespace, "FINISHED")

    @hook_impl
    def on_node_error(self, error: Exception, node: "Node") -> None:
        """Mark the run that the node belongs to, and no other child, as failed."""
        namespace = _namespace(node)
        self._safely(
            lambda: self._tag(namespace, {"error": f"{type(error).__name__}: {error}", "failed_node": node.name})
        )
        if namespace != PARENT:
            self._close(namespace, "FAILED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Mark the parent as failed; families that were still waiting were killed by it."""
        self._finish(parent="FAILED", children="KILLED")

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close every run that is still open."""
        self._finish(parent="FINISHED", children="FINISHED")

    def abandon(self) -> None:
        """Mark every run that is still open as killed; for an interruption, of which Kedro tells no hook."""
        self._finish(parent="KILLED", children="KILLED")

    def _open(
        self, run_params: dict[str, Any], catalog: "DataCatalog", pipeline: "Pipeline", families: list[str]
    ) -> None:
        from simulacra.provenance import git_commit

        self._catalog = catalog
        self._client, experiment = _connect(self._settings, self._project)
        parameters: dict[str, Any] = catalog.load("parameters")
        datasets = sorted({str(node.namespace).split(".")[0] for node in pipeline.nodes})
        title = " ".join(sorted(run_params["pipeline_names"] or datasets))
        tags = {
            "kedro.run_id": str(run_params["run_id"]),
            "kedro.env": self._environment,
            "kedro.pipelines": title,
            "kedro.namespaces": " ".join(sorted(run_params["namespaces"] or [])),
            "mlflow.source.name": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "mlflow.source.git.commit": git_commit() or "unknown",
        }
        self._runs[PARENT] = self._create(experiment, title, tags)
        resolved = {name: _plain(parameters[name]) for name in ("seed", *datasets)}
        self._log_parameters(PARENT, resolved)
        self._client.log_dict(self._runs[PARENT], resolved, "resolved_parameters.yml")
        for namespace in families:
            dataset, family = namespace.split(".")
            child_tags = tags | {"mlflow.parentRunId": self._runs[PARENT], "dataset": dataset, "family": family}
            self._runs[namespace] = self._create(experiment, namespace, child_tags)
            block = resolved[dataset]
            own = {key: block[key] for key in ("split", "generation") if key in block} | block[family]
            self._log_parameters(namespace, {"dataset": dataset, "seed": resolved["seed"]} | own)
        for dataset in datasets:
            name = f"{dataset}.split_record"
            if name not in pipeline.all_outputs() and catalog.exists(name):
                self._log_split(dataset, catalog.load(name))

    def _create(self, experiment: str, title: str, tags: dict[str, str]) -> str:
        assert self._client is not None  # noqa: S101
        return str(self._client.create_run(experiment, tags=tags, run_name=title).info.run_id)

    def _log_numbers(self, namespace: str, name: str, data: Any) -> None:
        """Log what MLflow can chart of a dataset, told by the last part of its name."""
        if name == "history":
            self._log_curves(namespace, data)
        elif name == "metrics":
            self._log_metrics(namespace, _metric_values(data))
            self._tag(namespace, {"passport_id": data["passport_id"]})
        elif name == "baselines":
            values = [_metric_values(record, f"{record['row']}/") for record in data]
            self._log_metrics(namespace, {key: value for each in values for key, value in each.items()})
        elif name == "verdict":
            self._tag(namespace, {"augmentation": data["verdict"]})
            results = {key: value for key, value in _numbers(data).items() if key in VERDICT_METRICS}
            self._log_metrics(namespace, {f"augmentation/{key}": value for key, value in results.items()})
        elif name in ("training_record", "generation_cost", "extractor_record"):
            self._log_metrics(namespace, _numbers(data))

    def _log_split(self, dataset: str, record: Mapping[str, Any]) -> None:
        """Log each split with its hash as an input of the parent and of the dataset's families."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(dataset, part["fingerprint"][:32], "local", json.dumps({"split": split, **part})),
                [InputTag("mlflow.data.context", split)],
            )
            for split, part in record["splits"].items()
        ]
        for namespace, run in self._runs.items():
            if self._client is not None and namespace.split(".")[0] in (PARENT, dataset):
                self._client.log_inputs(run, inputs)

    def _log_curves(self, namespace: str, history: Any) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        points = [
            Metric(f"{row.split}/{row.name}", row.value, now, row.step)
            for row in history.itertuples(index=False, name="Point")
        ]
        for start in range(0, len(points), BATCH):
            self._batch(namespace, metrics=points[start : start + BATCH])

    def _log_metrics(self, namespace: str, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._batch(namespace, metrics=[Metric(key, float(value), now, 0) for key, value in values.items()])

    def _log_parameters(self, namespace: str, block: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in flat(block).items()]
        for start in range(0, len(params), BATCH // 10):
            self._batch(namespace, params=params[start : start + BATCH // 10])

    def _batch(self, namespace: str, **what: Any) -> None:
        if self._client is not None and namespace in self._runs:
            self._client.log_batch(self._runs[namespace], **what)

    def _tag(self, namespace: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._batch(namespace, tags=[RunTag(key, value[:5000]) for key, value in tags.items()])

    def _log_file(self, namespace: str, dataset_name: str) -> None:
        """Log a dataset's file or folder, as it lies on disk, below the folder of its stage."""
        path = getattr(self._catalog.get(dataset_name), "_filepath", None)
        if self._client is None or path is None or namespace not in self._runs:
            return
        path = Path(str(path))
        place = _artifact_place(path)
        if path.is_dir():
            self._client.log_artifacts(self._runs[namespace], str(path), f"{place}/{path.name}")
        elif path.is_file():
            self._client.log_artifact(self._runs[namespace], str(path), place)

    def _close(self, namespace: str, status: str) -> None:
        """End one run; it is forgotten, so that nothing is logged to it any more."""

        def terminate() -> None:
            if self._client is not None and namespace in self._runs:
                self._client.set_terminated(self._runs.pop(namespace), status)

        self._safely(terminate)

    def _finish(self, *, parent: str, children: str) -> None:
        for namespace in [name for name in self._runs if name != PARENT]:
            self._close(namespace, children)
        self._close(PARENT, parent)

    def _safely(self, action: Callable[[], None]) -> None:
        """Do it; a tracking server that fails is given up for the rest of the run, which goes on."""
        try:
            action()
        except Exception as error:
            # Anything may come out of a server, a database or a proxy, and none of it is worth a training.
            self._client, self._runs = None, {}
            logger.warning("MLflow tracking is off for the rest of this run: %s: %s", type(error).__name__, error)


def _connect(settings: TrackingConfig, project: Path) -> "tuple[MlflowClient, str]":
    """Return a client and the experiment's id; a relative sqlite path lies in the project."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(settings.timeout))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    uri = settings.tracking_uri
    local = uri.startswith("sqlite:///") and not uri.startswith("sqlite:////")
    if local:
        uri = f"sqlite:///{project / uri.removeprefix('sqlite:///')}"
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(settings.experiment)
    if found is not None:
        return client, str(found.experiment_id)
    place = (project / "mlruns").as_uri() if local else None
    return client, str(client.create_experiment(settings.experiment, artifact_location=place))


def _namespace(node: "Node") -> str:
    """Return `<dataset>.<family>` for a family's node, PARENT for any other."""
    namespace = str(node.namespace or "")
    return namespace if len(namespace.split(".")) == FAMILY_DEPTH else PARENT


def _artifact_place(path: Path) -> str:
    """Return the folder inside the run's artifacts: the path from 01_raw or the like onwards."""
    parts = path.parent.parts
    start = next((i for i, part in enumerate(parts) if part[:2].isdigit() and part[2:3] == "_"), len(parts) - 1)
    return "/".join(parts[start:])


def _plain(value: Any) -> Any:
    """Return parameters as plain mappings: Kedro has put pydantic models where nodes asked for them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: value for key, value in record.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _metric_values(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return value and spread of every metric of a record."""
    values = {f"{prefix}{key}": entry["value"] for key, entry in record["metrics"].items()}
    spreads = {f"{prefix}{key}_std": entry["std"] for key, entry in record["metrics"].items()}
    return values | {key: spread for key, spread in spreads.items() if spread is not None}

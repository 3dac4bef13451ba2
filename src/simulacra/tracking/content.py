"""What MLflow is told of each dataset, by the last part of the dataset's name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

SPEAKING = frozenset(
    {
        "history",
        "metrics",
        "baselines",
        "guest_records",
        "verdict",
        "training_record",
        "generation_cost",
        "extractor_record",
    }
    | {"exploration", "prompt_fidelity", "edits", "human_metrics", "human_record"}
)
"""Datasets that have numbers for MLflow; of any other only the file is logged."""

VERDICT_METRICS = ("difference", "accuracy_real", "accuracy_augmented", "accuracy_all_real")
"""What of an augmentation verdict is a result; the rest are its conditions."""


class Content(NamedTuple):
    """Metrics as (key, value, step), and tags."""

    metrics: list[tuple[str, float, int]]
    tags: dict[str, str]


def content(name: str, data: Any) -> Content:
    """Return what MLflow can chart of a dataset."""
    if name == "history":
        rows = data.itertuples(index=False, name="Point")
        return Content([(f"{row.split}/{row.name}", float(row.value), int(row.step)) for row in rows], {})
    values, tags = _record_content(name, data)
    metrics = [(key, float(value), 0) for key, value in values.items()]
    if name == "training_record":
        # Looks at samples while the family was trained drew these curves; the last look is their end.
        seen = _numbers(data.get("samples", {}), "samples/")
        metrics += [(key, float(value), int(data.get("steps", 0))) for key, value in seen.items()]
    return Content(metrics, tags)


def split_inputs(dataset: str, record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return each split with its hash as an MLflow input; there may be too many classes for their counts."""
    return [
        {
            "name": dataset,
            "digest": part["fingerprint"][:32],
            "source": json.dumps({"split": split, "n": part["n"], "fingerprint": part["fingerprint"]}),
            "context": split,
        }
        for split, part in record["splits"].items()
    ]


def artifact_place(path: Path) -> str:
    """Return the folder inside the run's artifacts: the path from 01_raw or the like onwards.

    Example:
        >>> artifact_place(Path("/somewhere/data/08_reporting/mnist/vae/metrics.json"))
        '08_reporting/mnist/vae'
    """
    parts = path.parent.parts
    start = next((i for i, part in enumerate(parts) if part[:2].isdigit() and part[2:3] == "_"), len(parts) - 1)
    return "/".join(parts[start:])


def plain(value: Any) -> Any:
    """Return parameters as plain mappings: Kedro has put pydantic models where nodes asked for them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return {key: plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _record_content(name: str, data: Any) -> tuple[dict[str, float], dict[str, str]]:
    if name == "metrics":
        return _metric_values(data), {"passport_id": data["passport_id"]}
    if name in {"exploration", "prompt_fidelity", "edits", "human_metrics"}:
        return _numbers(data["metrics"]), {}
    if name in {"baselines", "guest_records"}:
        rows = [_metric_values(record, f"{record['row']}/") for record in data]
        return {key: value for row in rows for key, value in row.items()}, {}
    if name == "verdict":
        results = {key: value for key, value in _numbers(data).items() if key in VERDICT_METRICS}
        return {f"augmentation/{key}": value for key, value in results.items()}, {"augmentation": data["verdict"]}
    if name == "training_record":
        raised = {f"flag.{flag['name']}": f"step {flag['step']}: {flag['symptom']}" for flag in data.get("flags", ())}
        return _numbers(data), raised
    return (_human_values if name == "human_record" else _numbers)(data), {}


def _human_values(record: Mapping[str, Any]) -> dict[str, float]:
    """Return what people's answers say of no family in particular."""
    values = {"raters": record["n_raters"], "answers": record["n_answers"], "real_error_rate": record["real"]["value"]}
    values |= {f"alpha_{mode}": found["alpha"] for mode, found in record["agreement"].items()}
    return {f"human/{key}": value for key, value in values.items() if value is not None}


def _numbers(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    return {
        f"{prefix}{key}": value
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _metric_values(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return value and spread of every metric of a record."""
    values = {f"{prefix}{key}": entry["value"] for key, entry in record["metrics"].items()}
    spreads = {f"{prefix}{key}_std": entry["std"] for key, entry in record["metrics"].items()}
    return values | {key: spread for key, spread in spreads.items() if spread is not None}

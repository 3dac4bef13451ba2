"""What MLflow is told of each dataset, by the last part of the dataset's name."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

VERDICT_METRICS = ("difference", "accuracy_real", "accuracy_augmented", "accuracy_all_real")
"""What of an augmentation verdict is a result; the rest are its conditions."""


Said = tuple[dict[str, float], dict[str, str]]


class Content(NamedTuple):
    """Metrics as (key, value, step), and tags."""

    metrics: list[tuple[str, float, int]]
    tags: dict[str, str]


def content(name: str, data: Any) -> Content:
    """Return what MLflow can chart of a dataset."""
    if name == "history":
        rows = data.itertuples(index=False, name="Point")
        return Content([(f"{row.split}/{row.name}", float(row.value), int(row.step)) for row in rows], {})
    values, tags = RECORDS[name](data)
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


def _rows(records: Any) -> Said:
    """Return what reference rows and other programs' images say: no child run is theirs, so keys name the row."""
    rows = [_metric_values(record, f"{record['row']}/") for record in records]
    return {key: value for row in rows for key, value in row.items()}, {}


def _verdict(data: Any) -> Said:
    results = {key: value for key, value in _numbers(data).items() if key in VERDICT_METRICS}
    return {f"augmentation/{key}": value for key, value in results.items()}, {"augmentation": data["verdict"]}


def _training(data: Any) -> Said:
    raised = {f"flag.{flag['name']}": f"step {flag['step']}: {flag['symptom']}" for flag in data.get("flags", ())}
    return _numbers(data), raised


def _champion(data: Any) -> Said:
    return (_metric_values(data, "champion/"), {"champion": str(data["version"])}) if data else ({}, {})


def _retraining(data: Any) -> Said:
    drift = data["drift"].get("p")
    return {} if drift is None else {"drift/p": drift}, {"retrain": data["sentence"]}


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


RECORDS: dict[str, Callable[[Any], Said]] = {
    "metrics": lambda data: (_metric_values(data), {"passport_id": data["passport_id"]}),
    "baselines": _rows,
    "guest_records": _rows,
    "verdict": _verdict,
    "training_record": _training,
    "generation_cost": lambda data: (_numbers(data), {}),
    "extractor_record": lambda data: (_numbers(data), {}),
    **dict.fromkeys(
        ("exploration", "prompt_fidelity", "edits", "human_metrics"), lambda data: (_numbers(data["metrics"]), {})
    ),
    "human_record": lambda data: (_human_values(data), {}),
    "retrain_decision": _retraining,
    "champion_record": _champion,
    "gate_record": lambda data: ({"gate/takes_over": float(data["takes_over"])}, {"gate": data["sentence"]}),
}
"""What each record says: metrics and tags."""

SPEAKING = frozenset({"history", *RECORDS})
"""Datasets that have numbers for MLflow; of any other only the file is logged."""

"""A dataset's tick as a DAG of Airflow: what kedro-airflow fills `airflow_dag.py.j2` with."""

import json
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from simulacra.errors import SimulacraError
from simulacra.retraining.schedule_config import ScheduleConfig
from simulacra.retraining.steps import Step, decision_place, steps
from simulacra.tracking.joining import PARENT_RUN

TEMPLATE = Path(__file__).with_name("airflow_dag.py.j2")

DEFAULT_POOL = "default_pool"
"""The pool that every Airflow has; tasks of one that it has not would never begin, and say nothing."""


def refuse_missing() -> None:
    """Refuse to go on without kedro-airflow.

    Raises:
        SimulacraError: which names the extra that brings it.
    """
    if find_spec("kedro_airflow") is None:
        raise SimulacraError(
            "a DAG is made by kedro_airflow, which the extra airflow brings: run "
            '`pip install -c requirements.lock -e ".[airflow]"`'
        )


def dag_facts(
    dataset: str, families: Sequence[str], config: ScheduleConfig, root: Path, env: str | None, pool: str = DEFAULT_POOL
) -> dict[str, Any]:
    """Return what the template needs, most of it as Python's literals.

    Args:
        dataset: its name.
        families: all of the dataset's, since any may be named by a decision.
        config: content of schedule.yml.
        root: folder of data and results; a relative one lies in the project.
        env: Kedro environment of the runs; None for that of KEDRO_ENV, or local.
        pool: Airflow's, which bounds what runs at once over all its DAGs.

    Raises:
        SimulacraError: where schedule.yml says nothing of the dataset, or its time zone has no name.

    Example:
        >>> config = ScheduleConfig.parse({"datasets": {"mnist": {"cron": "0 3 * * 1", "timezone": "UTC"}}}, ["mnist"])
        >>> facts = dag_facts("mnist", ["vae"], config, Path("data"), "gpu")
        >>> facts["dag_id"], facts["schedule"]
        ('"simulacra_gpu_mnist"', 'CronTriggerTimetable("0 3 * * 1", timezone="UTC")')
        >>> facts["retrain"]
        '"run --pipelines retrain --namespaces mnist --env gpu"'
    """
    if dataset not in config.datasets:
        raise SimulacraError(f"schedule.yml: datasets has no entry {dataset}; conf/README.md has an example")
    entry = config.of(dataset)
    tick = steps(dataset, families, kedro=(), options=("--env", env) if env else ())
    zone = json.dumps(_named(entry.zone, dataset))
    cron = "None" if entry.cron is None else f"CronTriggerTimetable({json.dumps(entry.cron)}, timezone={zone})"
    named = [part for part in (dataset, env) if part]
    return {
        "command": json.dumps(f"kedro schedule dag {dataset}" + (f" --env {env}" if env else "")),
        "dag_id": json.dumps("_".join(["simulacra", *reversed(named)])),
        "schedule": cron,
        "zone": zone,
        "retries": entry.retries,
        "back_off": f"{entry.back_off:g}",
        "timeout": f"{entry.timeout:g}",
        "concurrency": config.concurrency,
        "pool": json.dumps(pool),
        "decision": json.dumps(decision_place(root, dataset).as_posix()),
        "parent_variable": json.dumps(PARENT_RUN),
        "parent": " ".join(named),
        "watch": _line(tick.watch),
        "prepare": _line(tick.prepare),
        "families": {json.dumps(name): _line(step) for name, step in zip(families, tick.families, strict=True)},
        "retrain": _line(tick.retrain),
    }


def _line(step: Step) -> str:
    return json.dumps(shlex.join(step.command))


def _named(zone: ZoneInfo, dataset: str) -> str:
    """Return a zone's name; a machine's own may have none that another machine knows."""
    try:
        return ZoneInfo(str(zone)).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SimulacraError(
            f"schedule.yml: datasets.{dataset}.timezone: this machine's has no name; give one, such as Europe/Berlin"
        ) from error

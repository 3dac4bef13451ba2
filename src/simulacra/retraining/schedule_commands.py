"""`kedro schedule`: retrain at set times, see what was done, do it now, stop."""

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from rich.console import Group

    from simulacra.retraining.ledger import Tick
    from simulacra.retraining.tick import Workshop

SHOWN = 10
"""Ticks that `list` shows."""

STOP_WAIT = 30.0
"""Seconds beyond its processes' patience that a scheduler is waited for."""


environment = click.option("--env", default=None, help="Kedro environment, of the schedule and of the runs.")


@click.group(name="schedule")
def schedule() -> None:
    """Retrain at the times of conf/base/schedule.yml."""


@schedule.command()
@environment
def start(env: str | None) -> None:
    """Work off what is due, in the foreground, until told to stop."""
    from simulacra.retraining.schedule import Scheduler

    Scheduler(_workshop(env)).serve()


@schedule.command("run-now")
@click.argument("dataset")
@environment
def run_now(dataset: str, env: str | None) -> None:
    """Do one tick of a dataset at once; the exit code is 0 where all of it went well."""
    from simulacra.experiments import load_experiments, unknown
    from simulacra.retraining.schedule import Scheduler

    shop = _workshop(env)
    if dataset not in (known := load_experiments()):
        raise SimulacraError(unknown("dataset", dataset, known))
    tick, ending = Scheduler(shop).run_now(dataset)
    click.echo(f"{tick.key}: {ending.status}: {ending.outcome}")
    if ending.status != "done":
        click.echo(f"What its processes printed: {shop.logs(tick.key)}")
        sys.exit(1)


@schedule.command("list")
@environment
@click.option("--json", "as_json", is_flag=True, help="Print it for programs.")
def list_(env: str | None, as_json: bool) -> None:
    """Show what is due when, and what became of the last ticks."""
    state = overview(_workshop(env), datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(state, indent=2, default=str))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(tables(state))


@schedule.command()
@environment
def stop(env: str | None) -> None:
    """Stop the scheduler; what it is at ends as an interrupted run does, and the next start goes on with it."""
    shop = _workshop(env)
    found = shop.ledger.scheduler()
    owner = found and found[0]
    if owner and not owner.here:
        raise SimulacraError(f"the scheduler is process {owner.pid} on {owner.host}: stop it there")
    process = owner and owner.process()
    if owner is None or process is None:
        raise SimulacraError("no scheduler is running for this project")
    process.terminate()
    deadline = time.monotonic() + shop.config.patience + STOP_WAIT
    while owner.process():
        if time.monotonic() > deadline:
            raise SimulacraError(f"the scheduler, process {owner.pid}, was told to stop and still runs")
        time.sleep(0.1)
    click.echo(f"stopped the scheduler, process {owner.pid}")


@schedule.command()
@click.argument("dataset")
@environment
@click.option("--target-dir", default="airflow_dags", show_default=True, help="Folder that the DAG is written to.")
@click.option("--pool", default="default_pool", show_default=True, help="Airflow's pool, which must be there.")
@click.pass_context
def dag(context: click.Context, dataset: str, env: str | None, target_dir: str, pool: str) -> None:
    """Write a dataset's ticks as a DAG of Airflow, by kedro-airflow."""
    from simulacra.experiments import load_experiments, unknown
    from simulacra.retraining.airflow_dag import TEMPLATE, dag_facts, refuse_missing

    refuse_missing()
    from kedro_airflow.plugin import create

    if env:
        os.environ["KEDRO_ENV"] = env  # the registry's datasets are those of the environment, too
    shop = _workshop(env)
    if dataset not in (known := load_experiments()):
        raise SimulacraError(unknown("dataset", dataset, known))
    root = shop.data_root.relative_to(shop.project) if shop.data_root.is_relative_to(shop.project) else shop.data_root
    facts = dag_facts(dataset, known[dataset].families, shop.config, root, env, pool)
    about = {"pipeline_names": [dataset], "env": env or "local", "target_path": target_dir}
    context.invoke(create, **about, jinja_file=TEMPLATE, params=facts)


def overview(shop: "Workshop", now: datetime) -> dict[str, Any]:
    """Return what `list` shows: the scheduler, every scheduled dataset, and the last ticks, the latest first."""
    found = shop.ledger.scheduler()
    scheduler = None
    if found is not None and (found[0].process() is not None or not found[0].here):
        scheduler = {"pid": found[0].pid, "host": found[0].host, "since": _local(found[1])}
    datasets = {}
    for name, entry in shop.config.datasets.items():
        trigger = entry.trigger()
        due = trigger.after(now) if trigger else None
        last = shop.ledger.ticks(1, name)
        datasets[name] = {
            "cron": entry.cron,
            "timezone": str(entry.zone),
            "next_due": due and due.astimezone(entry.zone).isoformat(timespec="minutes"),
            "last": _plain(shop, last[0]) if last else None,
        }
    return {
        "scheduler": scheduler,
        "datasets": datasets,
        "ticks": [_plain(shop, tick) for tick in shop.ledger.ticks(SHOWN)],
    }


def tables(state: Mapping[str, Any]) -> "Group":
    """Return an overview for the console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    scheduler = state["scheduler"]
    said = "No scheduler is running; `kedro schedule start` starts one."
    if scheduler:
        said = f"The scheduler is process {scheduler['pid']} on {scheduler['host']}, since {scheduler['since']}."
    plan = Table("Dataset", "Cron", "Time zone", "Next due", "Last tick", "Status", "Outcome", box=box.SIMPLE_HEAD)
    for name, entry in state["datasets"].items():
        last = entry["last"] or {}
        row = (name, entry["cron"] or "by hand", entry["timezone"], entry["next_due"] or "–")
        plan.add_row(*map(Text, (*row, *(str(last.get(key, "–")) for key in ("due_at", "status", "outcome")))))
    ticks = Table("Tick", "Began", "Ended", "Status", "Attempts", "Outcome", box=box.SIMPLE_HEAD)
    for tick in state["ticks"]:
        keys = ("key", "began_at", "ended_at", "status", "attempts", "outcome")
        ticks.add_row(*(Text("–" if tick[key] is None else str(tick[key])) for key in keys))
    parts = [plan if state["datasets"] else Text("No dataset is scheduled; conf/README.md has an example.")]
    return Group(Text(said), *parts, *([ticks] if state["ticks"] else []))


def _plain(shop: "Workshop", tick: "Tick") -> dict[str, Any]:
    """Return a tick as JSON, times in this machine's zone."""
    times = {key: _local(getattr(tick, key)) for key in ("due_at", "began_at", "ended_at")}
    plain = ("dataset", "key", "by_hand", "status", "outcome", "attempts", "parent_run")
    facts = {key: getattr(tick, key) for key in plain}
    owner = tick.owner
    if tick.status == "running" and owner and owner.here and owner.process() is None:
        facts["outcome"] = "its process is gone; the next start of the scheduler takes it up"
    process = {"pid": owner and owner.pid, "host": owner and owner.host}
    return facts | times | process | {"steps": shop.ledger.steps(tick), "logs": str(shop.logs(tick.key))}


def _local(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().isoformat(sep=" ", timespec="seconds")


def _workshop(env: str | None) -> "Workshop":
    """Return where this project's ticks are worked off.

    Raises:
        SimulacraError: where schedule.yml is wrong.
    """
    from kedro.framework.session import KedroSession

    from simulacra.experiments import data_root, parse_experiments
    from simulacra.retraining.schedule_config import ScheduleConfig
    from simulacra.retraining.steps import steps
    from simulacra.retraining.tick import Workshop

    context = KedroSession.create(save_on_close=False, env=env).load_context()
    loader = context.config_loader
    config = ScheduleConfig.parse(loader["schedule"], parse_experiments(loader["experiments"]))
    project = Path(context.project_path)
    kedro = (sys.executable, "-m", "kedro")
    options = ("--env", env) if env else ()
    return Workshop(project, data_root(loader, project), config, partial(steps, kedro=kedro, options=options))

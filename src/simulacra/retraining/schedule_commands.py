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
from simulacra.retraining import overview

if TYPE_CHECKING:
    from rich.console import Group

    from simulacra.retraining.tick import Workshop

BAD = ("failed", "timed out", "killed")
"""Ends of ticks that want to be looked into."""

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
    from simulacra.retraining.schedule import Scheduler

    shop = _workshop(env)
    _known(dataset)
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
    shop, now = _workshop(env), datetime.now(UTC)
    state = overview.overview(shop.config, shop.state, now)
    if as_json:
        click.echo(json.dumps(state, indent=2, default=str))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(tables(state, now))
    if bad := next((tick for tick in state["ticks"] if tick["status"] in BAD), None):
        click.echo(f"What the last one that did not end well printed: {bad['logs']}")  # in one line, to be copied


@schedule.command()
@click.argument("dataset")
@environment
def page(dataset: str, env: str | None) -> None:
    """Write the page of operations of a dataset, as all is by now; every tick does so when it is over."""
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession

    _workshop(env)
    _known(dataset)
    catalog = KedroSession.create(save_on_close=False, env=env).load_context().catalog
    (node,) = pipelines["watch"].filter(tags=["operations"], node_namespaces=[dataset]).nodes
    for name, made in node.run({name: catalog.load(name) for name in node.inputs}).items():
        catalog.save(name, made)
        click.echo(getattr(catalog.get(name), "_filepath", name))


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


def tables(state: Mapping[str, Any], now: datetime) -> "Group":
    """Return an overview for a console, however narrow it is.

    Args:
        state: the overview.
        now: the time.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    plan = Table("Dataset", "Cron", "Next due", "Last tick", box=box.SIMPLE_HEAD)
    for name, entry in state["datasets"].items():
        plan.add_row(*map(Text, (name, entry["cron"] or "–", _next(entry, now), _last(entry["last"], now))))
    ticks = Table("Dataset", f"Due ({now.astimezone():%Z})", "Status", "Outcome", box=box.SIMPLE_HEAD)
    for tick in state["ticks"]:
        by_hand = "\nby hand" if tick["by_hand"] else ""
        row = (tick["dataset"], f"{tick['due_at'][:16]}{by_hand}", overview.became(tick), overview.outcome(tick))
        ticks.add_row(*map(Text, row))
    parts = [plan if state["datasets"] else Text("No dataset is scheduled; conf/README.md has an example.")]
    said = Text(overview.about_scheduler(state["scheduler"]))
    return Group(said, *parts, *([ticks] if state["ticks"] else []))


def _next(entry: Mapping[str, Any], now: datetime) -> str:
    """Return when a dataset is due, and in how long."""
    if entry["next_due"] is None:
        return "by hand only"
    due = datetime.fromisoformat(entry["next_due"])
    told = f"{due:%a %Y-%m-%d %H:%M} {entry['timezone']}, in {overview.span((due - now).total_seconds())}"
    if entry["overdue"] is None:
        return told
    return f"{told}; overdue since {datetime.fromisoformat(entry['overdue']):%a %Y-%m-%d %H:%M}"


def _last(tick: Mapping[str, Any] | None, now: datetime) -> str:
    """Return what became of a dataset's last tick, and how long ago."""
    if tick is None:
        return "–"
    if tick["ended_at"] is None:
        return str(tick["status"])
    ago = (now - datetime.fromisoformat(tick["ended_at"])).total_seconds()
    return f"{tick['status']}, {overview.span(ago)} ago"


def _known(dataset: str) -> None:
    """Refuse a dataset that there is not.

    Raises:
        SimulacraError: for such a one.
    """
    from simulacra.experiments import load_experiments, unknown

    if dataset not in (known := load_experiments()):
        raise SimulacraError(unknown("dataset", dataset, known))


def _workshop(env: str | None) -> "Workshop":
    """Return where this project's ticks are worked off.

    Raises:
        SimulacraError: where schedule.yml is wrong.
    """
    from kedro.framework.session import KedroSession

    from simulacra.experiments import data_root
    from simulacra.retraining.schedule_config import load_schedule
    from simulacra.retraining.steps import steps
    from simulacra.retraining.tick import Workshop

    if env:
        os.environ["KEDRO_ENV"] = env
    context = KedroSession.create(save_on_close=False, env=env).load_context()
    loader = context.config_loader
    config, project = load_schedule(), Path(context.project_path)
    kedro = (sys.executable, "-m", "kedro")
    options = ("--env", env) if env else ()
    return Workshop(project, data_root(loader, project), config, partial(steps, kedro=kedro, options=options))

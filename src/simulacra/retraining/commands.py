"""`kedro champion`: see, choose and take back the model of a dataset that is served."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from simulacra.retraining.registry import Registry, Version

SHOWN = 3
"""Metrics that the list of versions has room for."""


@click.group()
@click.option("--dataset", default=None, help="Whose models; without it, those of the default dataset.")
@click.option("--env", default=None, help="Kedro environment whose mlflow.yml names the store.")
@click.pass_context
def champion(context: click.Context, dataset: str | None, env: str | None) -> None:
    """Show, choose and take back the model of a dataset that is served.

    `mlflow models serve -m models:/simulacra.DATASET@champion --env-manager local` serves it.
    """
    context.obj = (dataset, env)


@champion.command()
@click.pass_obj
def show(chosen: tuple[str | None, str | None]) -> None:
    """List all versions, newest first, and say which is champion."""
    from rich.console import Console

    registry = open_registry(*chosen)
    found = registry.history()
    if found:
        Console(width=None if sys.stdout.isatty() else 160).print(table(registry.name, found))
    served = registry.need_champion()
    click.echo(f"champion: version {served.number}, {served.family}, registered {served.created} UTC")


@champion.command()
@click.argument("version", type=click.IntRange(min=1))
@click.pass_obj
def promote(chosen: tuple[str | None, str | None], version: int) -> None:
    """Make VERSION the champion, if its files are whole and it loads."""
    registry = open_registry(*chosen)
    former = registry.champion()
    promoted = registry.promote(version)
    before = "there was none before" if former is None else f"it was version {former.number}, {former.family}"
    if former is not None and former.number == version:
        before = "as it was already"
    click.echo(f"champion of {registry.name} is version {promoted.number}, {promoted.family}; {before}")


@champion.command()
@click.pass_obj
def rollback(chosen: tuple[str | None, str | None]) -> None:
    """Put the previous champion back; doing so twice changes nothing."""
    registry = open_registry(*chosen)
    down, back = registry.rollback()
    click.echo(
        f"champion of {registry.name} is version {back.number}, {back.family}, again; version {down.number}, "
        f"{down.family}, stepped down, and `kedro champion rollback` would bring it back"
    )


@champion.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def export(chosen: tuple[str | None, str | None], folder: Path) -> None:
    """Put the champion's weights, safetensors and JSON, into FOLDER."""
    registry = open_registry(*chosen)
    served = registry.need_champion()
    registry.fetch(served, folder)
    click.echo(f"version {served.number} of {registry.name}, {served.family}, is in {folder}")


def open_registry(dataset: str | None, env: str | None) -> "Registry":
    """Return the registry of a dataset in the store that mlflow.yml names.

    Args:
        dataset: of experiments.yml; the first one where there is none told.
        env: Kedro environment.

    Raises:
        SimulacraError: for a dataset that does not exist, or a store that cannot be opened.
    """
    from kedro.framework.session import KedroSession

    from simulacra.errors import SimulacraError
    from simulacra.experiments import load_experiments, unknown
    from simulacra.retraining.registry import Registry
    from simulacra.tracking.config import TrackingConfig

    if env:
        os.environ["KEDRO_ENV"] = env
    known = list(load_experiments())
    if dataset is not None and dataset not in known:
        raise SimulacraError(unknown("dataset", dataset, known))
    context = KedroSession.create(save_on_close=False, env=env).load_context()
    settings = TrackingConfig.parse(context.config_loader["mlflow"])
    return Registry(settings, context.project_path, dataset or known[0])


def table(name: str, versions: "list[Version]") -> "Table":
    """Return the versions for the console."""
    from rich import box
    from rich.table import Table

    from simulacra.metrics import METRICS, format_value

    measured = [key for key in METRICS if any(key in version.metrics for version in versions)][:SHOWN]
    titles = [METRICS[key].title for key in measured]
    listed = Table("Version", "Alias", "Family", "Registered", "Passport", *titles, title=name, box=box.SIMPLE_HEAD)
    for column in listed.columns:
        column.overflow = "fold"
    for version in versions:
        values = [
            format_value(key, version.metrics[key]["value"], version.metrics[key]["std"])
            if key in version.metrics
            else ""
            for key in measured
        ]
        aliases = ", ".join(version.aliases)
        listed.add_row(str(version.number), aliases, version.family, version.created, version.passport_id, *values)
    return listed

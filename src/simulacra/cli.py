"""Project commands: Kedro's own `run`, with datasets chosen by namespace and mistakes told in one line."""

import errno
import functools
import os
import re
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from simulacra.errors import SimulacraError
from simulacra.experiments import CONF_SOURCE, STAGES, load_experiments, unknown
from simulacra.settings import HOOKS
from simulacra.tracking import TrackingHooks

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR)
"""What the operating system says where the user, and not a bug, keeps a file from being written."""


@click.group(name="simulacra")
def cli() -> None:
    """Commands of this project."""


def choose(options: dict[str, Any]) -> dict[str, Any]:
    """Fill in what `--pipeline` and `--namespaces` leave open.

    A stage covers the default dataset, the first of experiments.yml, unless --namespaces names another; --namespaces
    without a pipeline means the whole pipeline of the datasets named.

    Raises:
        SimulacraError: for a pipeline, dataset or family that does not exist.
    """
    experiments = load_experiments()
    pipelines = [options["pipeline"]] if options["pipeline"] else list(options["pipelines"] or [])
    namespaces = list(options["namespaces"] or [])
    stages = {*STAGES, *(f"train_{family}" for entry in experiments.values() for family in entry.families)}
    for name in pipelines:
        if name not in {"__default__", *stages, *experiments}:
            raise SimulacraError(unknown("pipeline", name, [*stages, *experiments]))
    known = [
        name for entry in experiments.values() for name in (entry.dataset, *_children(entry.dataset, entry.families))
    ]
    for name in namespaces:
        if name not in known:
            raise SimulacraError(unknown("namespace", name, known))
    if namespaces and not pipelines:
        pipelines = sorted({name.split(".")[0] for name in namespaces})
    elif not namespaces and stages & set(pipelines):
        namespaces = [next(iter(experiments))]
    return options | {"pipeline": "", "pipelines": pipelines, "namespaces": namespaces}


def refuse_empty_cut(options: dict[str, Any]) -> None:
    """Cut the pipelines as Kedro will, so that a name it does not know is told as the mistake it is.

    Raises:
        SimulacraError: for a node, tag, dataset or runner that does not exist, or where the options leave no node.
    """
    from kedro.framework.project import pipelines
    from kedro.utils import load_obj

    whole = reduce(add, (pipelines[name] for name in options["pipelines"] or ["__default__"]))
    names = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs")
    cut = {name: options[name] or None for name in names}
    try:
        whole.filter(**cut, node_namespaces=options["namespaces"] or None)
    except ValueError as error:
        raise SimulacraError(f"nothing to run: {error}") from error
    if options["runner"]:
        try:
            load_obj(options["runner"], "kedro.runner")
        except (AttributeError, ImportError, ValueError) as error:
            raise SimulacraError(
                f"there is no runner {options['runner']!r}; use SequentialRunner or ParallelRunner"
            ) from error


def _children(dataset: str, families: tuple[str, ...]) -> list[str]:
    return [f"{dataset}.{family}" for family in families]


def told_plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a user's mistake into one message and exit code 1; any other error keeps its traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as interruption:
            for hooks in HOOKS:
                if isinstance(hooks, TrackingHooks):
                    hooks.abandon()
            click.echo(
                "\nInterrupted; the same command goes on from the last checkpoint, if one was written.", err=True
            )
            raise click.exceptions.Exit(130) from interruption
        except Exception as error:
            message = mistake(error)
            if message is None:
                raise
            raise click.ClickException(message) from error

    return wrapped


def mistake(error: BaseException | None) -> str | None:
    """Return the message of the user's mistake behind an error; None where there is none."""
    if (said := _behind(error)) is not None:
        return str(said)
    while error is not None:
        if isinstance(error, ParameterValidationError):
            return bad_parameters(str(error))
        if isinstance(error, YAMLError | OmegaConfBaseException | MissingConfigException):
            return f"the configuration cannot be read: {error}"
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            return f"{error.filename or 'the data folder'} cannot be written: {error.strerror}"
        if isinstance(error, DatasetError):
            return f"{error}\nRun the stage that makes this file again, and see that its folder can be written to."
        error = error.__cause__ or error.__context__
    return None


def _behind(error: BaseException | None) -> SimulacraError | None:
    """Return the SimulacraError among an error and its causes."""
    while error is not None and not isinstance(error, SimulacraError):
        error = error.__cause__
    return error


def bad_parameters(report: str) -> str:
    """Return one line a bad parameter, "key: what is wrong (got value)", of Kedro's and pydantic's long report."""
    lines: list[str] = []
    block = place = ""
    for line in report.splitlines():
        if header := re.match(r"- Parameter '([^']+)': (.*)", line):
            block, place = header[1], ""
            if not header[2].startswith("Failed to instantiate"):
                lines.append(f"{block}: {header[2]}")
        elif found := re.match(r"\s+(.+) \[type=\w+, input_value=(.*), input_type=\w+\]$", line):
            wrong = (
                found[1].replace("Extra inputs are not permitted", "unknown parameter").removeprefix("Value error, ")
            )
            lines.append(f"{block}{place}: {wrong} (got {found[2]})")
        elif not line.startswith(" "):
            place = f".{line.strip()}"
    return "\n".join(lines) or report


@told_plainly
def run(**options: Any) -> Any:
    """Run a pipeline."""
    if options["env"]:
        os.environ["KEDRO_ENV"] = options["env"]
    if options["conf_source"]:
        os.environ[CONF_SOURCE] = str(options["conf_source"])
    assert kedro_run.callback is not None  # noqa: S101
    chosen = choose(options)
    refuse_empty_cut(chosen)
    return kedro_run.callback(**chosen)


cli.add_command(
    click.Command(
        "run",
        params=kedro_run.params,
        callback=run,
        help="Run a pipeline: a stage or a dataset. Without --namespaces a stage covers the default dataset.",
        context_settings=kedro_run.context_settings,
    )
)

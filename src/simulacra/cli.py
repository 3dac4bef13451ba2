"""Project commands: Kedro's own `run`, with datasets chosen by namespace and mistakes told in one line."""

import functools
import logging
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from simulacra import garbage
from simulacra.errors import SimulacraError
from simulacra.experiments import ASKING_PEOPLE, CONF_SOURCE, RETRAINING, STAGES, load_experiments, unknown
from simulacra.files import UNWRITABLE
from simulacra.hooks import ProjectHooks
from simulacra.incremental import make_plan
from simulacra.models import FAMILIES, refuse_missing
from simulacra.retraining.commands import champion
from simulacra.retraining.schedule_commands import schedule
from simulacra.settings import HOOKS
from simulacra.tracking import TrackingHooks
from simulacra.tracking.joining import PARENT_RUN, parent_key
from simulacra.training import interruption

if TYPE_CHECKING:
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)

CHAMPION = "@champion"
"""Value of the parameter `model` that stands for the registry's champion."""
CUTS = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs")
"""Options of `kedro run` that leave out parts of a pipeline."""


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
    trained = (f"train_{family}" for entry in experiments.values() for family in entry.families)
    stages = {*STAGES, *ASKING_PEOPLE, *RETRAINING, *trained}
    for family in {name.removeprefix("train_").rpartition(".")[2] for name in (*pipelines, *namespaces)} & {*FAMILIES}:
        refuse_missing(family)
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


def select(options: dict[str, Any]) -> "Pipeline":
    """Return what the options select, as Kedro will, so that a name it does not know is told as the mistake it is.

    Raises:
        SimulacraError: for a node, tag, dataset or runner that does not exist, or where the options leave no node.
    """
    from kedro.utils import load_obj

    if options["runner"]:
        try:
            load_obj(options["runner"], "kedro.runner")
        except (AttributeError, ImportError, ValueError) as error:
            raise SimulacraError(
                f"there is no runner {options['runner']!r}; use SequentialRunner, ThreadRunner or ParallelRunner"
            ) from error
    context = os.environ.get("KEDRO_MP_CONTEXT") or multiprocessing.get_start_method()
    if "ParallelRunner" in (options["runner"] or "") and context != "fork":
        raise SimulacraError(f"worker processes that are started by {context} know no hooks of Kedro; use ThreadRunner")
    cut = {name: options[name] or None for name in CUTS}
    try:
        selected: Pipeline = _whole(options).filter(**cut, node_namespaces=options["namespaces"] or None)
    except ValueError as error:
        raise SimulacraError(f"nothing to run: {error}") from error
    return selected


def _whole(options: dict[str, Any]) -> "Pipeline":
    """Return the pipelines that the options name, before anything is cut from them."""
    from kedro.framework.project import pipelines

    whole: Pipeline = reduce(add, (pipelines[name] for name in options["pipelines"] or ["__default__"]))
    return whole


def with_what_is_missing(selected: "Pipeline", catalog: "DataCatalog", options: dict[str, Any]) -> "Pipeline":
    """Add to one family's nodes those of its dataset that make what it needs and is not there yet.

    What is there stays as it is, be it of other settings: the other families' results hang on it.
    """
    if not options["namespaces"] or any(options[name] for name in CUTS):
        return selected
    whole = _whole(options)
    needed = {name for name in selected.inputs() & whole.all_outputs() if not catalog.exists(name)}
    if not needed:
        return selected
    options["namespaces"] = []
    completed = selected + whole.to_outputs(*needed)
    options["node_names"] = [node.name for node in completed.nodes]
    return completed


def warn_of_what_is_outdated(selected: "Pipeline", catalog: "DataCatalog", options: dict[str, Any]) -> None:
    """Say which of the nodes that are not asked for would make something else today of what the others read.

    What they left behind is used all the same; a source or a setting that was changed since would else go unnoticed.
    """
    from kedro.framework.project import pipelines

    datasets = sorted({name.split(".")[0] for name in options["namespaces"]})
    if catalog.load("params:force"):
        return
    whole: Pipeline = reduce(add, (pipelines[dataset] for dataset in datasets), selected)
    needed = selected.inputs() & whole.all_outputs()
    stale = make_plan(whole.to_outputs(*needed), catalog).stale if needed else []
    if stale:
        logger.warning(
            "what %s made is used as it is, though settings, source or code are others now; "
            "kedro run --namespaces %s makes it anew",
            ", ".join(stale),
            ",".join(datasets),
        )


def _children(dataset: str, families: tuple[str, ...]) -> list[str]:
    return [f"{dataset}.{family}" for family in families]


def told_plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a user's mistake into one message and exit code 1; any other error keeps its traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as error:
            with suppress(KeyboardInterrupt):  # whoever asks again does not want to wait for MLflow
                for hooks in HOOKS:
                    if isinstance(hooks, TrackingHooks):
                        hooks.abandon()
            click.echo("\nInterrupted; the same command goes on from where it was.", err=True)
            raise click.exceptions.Exit(getattr(error, "exit_code", 130)) from error
        except Exception as error:
            message = mistake(error)
            if message is None:
                raise
            raise click.ClickException(message) from error

    return wrapped


def all_told_plainly(group: click.Group) -> click.Group:
    """Return a group of commands, each of which tells a user's mistake plainly from now on."""
    for command in group.commands.values():
        command.callback = command.callback and told_plainly(command.callback)
    return group


def mistake(error: BaseException) -> str | None:
    """Return the message of the user's mistake behind an error; None where there is none."""
    if (said := _behind(error)) is not None:
        return str(said)
    for kind, tell in MISTAKES.items():
        for link in _chain(error):
            if isinstance(link, kind) and (message := tell(link)):
                return message
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
            # Of a whole block the message itself says what is wrong in it.
            lines.append(f"{block}{place}: {wrong}" + ("" if found[2].startswith("{") else f" (got {found[2]})"))
        elif not line.startswith(" "):
            place = f".{line.strip()}"
    return "\n".join(lines) or report


def _unreadable(error: Any) -> str:
    return f"the configuration cannot be read: {error}"


def _unwritable(error: Any) -> str | None:
    if error.errno not in UNWRITABLE:
        return None
    return f"{error.filename or 'the data folder'} cannot be written: {error.strerror}"


MISTAKES: dict[type, Callable[[Any], str | None]] = {
    ParameterValidationError: lambda error: bad_parameters(str(error)),
    YAMLError: _unreadable,
    OmegaConfBaseException: _unreadable,
    MissingConfigException: _unreadable,
    OSError: _unwritable,
    DatasetError: lambda error: (
        f"{error}\nRun the stage that makes this file again, and see that its folder can be written to."
    ),
}
"""How to tell what others raise for a user's mistake; the first that occurs anywhere among an error's causes counts."""


@told_plainly
def run(**options: Any) -> Any:
    """Run what is not up to date of a pipeline."""
    if options["env"]:
        os.environ["KEDRO_ENV"] = options["env"]
    if options["conf_source"]:
        os.environ[CONF_SOURCE] = str(options["conf_source"])
    assert kedro_run.callback is not None  # noqa: S101
    chosen = choose(from_the_champion(options))
    with interruption.handled():
        if "retrain" in chosen["pipelines"]:
            return retrain(chosen)
        return kedro_run.callback(**chosen) if leave_out_what_is_done(chosen) else None


def from_the_champion(options: dict[str, Any]) -> dict[str, Any]:
    """Turn `--pipeline generate --params model=@champion` into the stage that draws from the registry.

    Raises:
        SimulacraError: where another model is named, or another stage.
    """
    params = dict(options["params"] or {})
    model = params.pop("model", None)
    if model is None:
        return options
    asked = [options["pipeline"]] if options["pipeline"] else list(options["pipelines"] or [])
    if model != CHAMPION or asked != ["generate"]:
        raise SimulacraError(
            f"the parameter model goes with --pipeline generate alone, and is {CHAMPION}; --namespaces mnist.vae draws "
            "from a family"
        )
    return options | {"params": params, "pipeline": "draw_champion", "pipelines": []}


def retrain(options: dict[str, Any]) -> None:
    """Look at the data of each dataset, train what they ask for, and let the gate decide; all below one MLflow parent.

    Raises:
        SimulacraError: where more is asked for than whole datasets.
    """
    experiments = load_experiments()
    if options["pipelines"] != ["retrain"] or any(options[name] for name in CUTS):
        raise SimulacraError("retrain decides itself what is to be run: ask for nothing beside it but --namespaces")
    for dataset in options["namespaces"]:
        if dataset not in experiments:
            raise SimulacraError(f"retrain is for whole datasets; use --namespaces {dataset.split('.')[0]}")
    for dataset in options["namespaces"]:
        with joined(dataset):
            retrain_dataset(dataset, options)


def retrain_dataset(dataset: str, options: dict[str, Any]) -> None:
    """Ask whether it is time; if so train the families concerned, and judge them beside the champion.

    One retraining asks once and decides once, in however many processes, begun however often: where its key stands in
    the decision, that one counts; and where its challenger is champion already, only what comes after is left to do.
    """
    from kedro.framework.project import pipelines

    decision = _agreed(dataset, options)
    if decision is None:
        _run_what_is_stale(options | {"pipelines": ["ingest", "preprocess", "watch"], "namespaces": [dataset]})
        decision = _catalog(options).load(f"{dataset}.retrain_decision")
    click.echo(decision["sentence"])
    if not decision["retrain"]:
        return
    left_out = {"watch", *FAMILIES} - {*decision["families"]}
    whole = pipelines["retrain"].filter(node_namespaces=[dataset])
    if _has_taken_over(dataset, options):
        whole = whole.only_nodes_with_tags("promotion", "operations")
    nodes = [node.name for node in whole.nodes if not node.tags & left_out]
    params = dict(options["params"] or {})
    # What an earlier attempt left half trained may be of other data, and nobody may be there to say what becomes of it.
    params["training"] = {"resume": "if_same"} | params.get("training", {})
    chosen = {"pipelines": ["retrain"], "namespaces": [], "node_names": nodes, "params": params}
    _run_what_is_stale(options | chosen)
    click.echo(_catalog(options).load(f"{dataset}.gate_record")["sentence"])


def _agreed(dataset: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the decision to train that the same retraining has come to already; None where there is none."""
    catalog, name = _catalog(options), f"{dataset}.retrain_decision"
    decision: dict[str, Any] = catalog.load(name) if parent_key() and catalog.exists(name) else {}
    return decision if decision.get("key") == parent_key() and decision.get("retrain") else None


def _has_taken_over(dataset: str, options: dict[str, Any]) -> bool:
    """Tell whether the same retraining has made its challenger champion already, and was killed after that."""
    catalog, name = _catalog(options), f"{dataset}.gate_record"
    gate: dict[str, Any] = catalog.load(name) if catalog.exists(name) else {}
    if gate.get("key") != parent_key() or not gate.get("winner"):
        return False
    challenger = catalog.load(f"{dataset}.{gate['winner']}.challenger")
    champion = catalog.load(f"{dataset}.registry").champion()
    return bool(challenger and champion) and champion.model_sha256 == challenger["model_sha256"]


@contextmanager
def joined(dataset: str) -> Iterator[None]:
    """Let the runs inside have one MLflow parent, unless whoever began this process has named one."""
    if named := os.environ.get(PARENT_RUN):
        logger.debug("joins %s", named)
        yield
        return
    os.environ[PARENT_RUN] = f"{dataset} retrain {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    try:
        yield
    finally:
        del os.environ[PARENT_RUN]


def _run_what_is_stale(options: dict[str, Any]) -> None:
    assert kedro_run.callback is not None  # noqa: S101
    if leave_out_what_is_done(options):
        kedro_run.callback(**options)


def _catalog(options: dict[str, Any]) -> Any:
    """Return the catalog of a run with these options."""
    about = {"env": options["env"], "conf_source": options["conf_source"], "runtime_params": options["params"]}
    return KedroSession.create(save_on_close=False, **about).load_context().catalog


@garbage.not_searched_for()
def leave_out_what_is_done(options: dict[str, Any]) -> bool:
    """Narrow the options of a run to the nodes that are not up to date; return whether there are any."""
    selected, catalog = select(options), _catalog(options)
    selected = with_what_is_missing(selected, catalog, options)
    warn_of_what_is_outdated(selected, catalog, options)
    plan = make_plan(selected, catalog)
    for hooks in HOOKS:
        if isinstance(hooks, TrackingHooks | ProjectHooks):
            hooks.reused = plan.reused
    n_all, n_stale = len(selected.nodes), len(plan.stale)
    if not n_stale:
        click.echo(f"nothing to do: all {n_all} nodes are up to date (--params force=true runs them all the same)")
        for hooks in HOOKS:
            if isinstance(hooks, ProjectHooks):
                hooks.show_results([], catalog)
            if isinstance(hooks, TrackingHooks):
                hooks.catch_up()
    elif n_stale < n_all:
        logger.info("%d of %d nodes are up to date", n_all - n_stale, n_all)
        options["node_names"] = plan.stale
    return n_stale > 0


class RunCommand(click.Command):
    """`kedro run`, whose --params are read by the rules of YAML and may break them."""

    @told_plainly
    def make_context(self, info_name: str | None, args: list[str], *more: Any, **kwargs: Any) -> click.Context:
        """Read the command line; YAML would want the champion's name in quotes, which few shells leave there."""
        args = [re.sub(r"(^|,|--params=)model=(@\w+)(?=,|$)", r"\1model='\2'", each) for each in args]
        return super().make_context(info_name, args, *more, **kwargs)


cli.add_command(
    RunCommand(
        "run",
        params=kedro_run.params,
        callback=run,
        help="Run a pipeline: a stage or a dataset. Without --namespaces a stage covers the default dataset.",
        context_settings=kedro_run.context_settings,
    )
)
cli.add_command(all_told_plainly(schedule))
cli.add_command(all_told_plainly(champion))


@cli.command()
@click.argument("run_ids", nargs=-1, metavar="[RUN_ID]...")
@click.option("--last", type=click.IntRange(min=2), default=2, show_default=True, help="How many runs, without ids.")
@click.option("--env", default=None, help="Kedro environment whose mlflow.yml names the store.")
@told_plainly
def compare(run_ids: tuple[str, ...], last: int, env: str | None) -> None:
    """Show what changed between tracked runs: data, code, parameters, metrics and the significance of their change.

    RUN_ID is an MLflow run, of a whole `kedro run` or of one family; without any, the last runs are compared. The first
    run of each family stands beside each later one. The p-values are Welch's, over sample seeds, corrected by Holm's
    method for the number of metrics: they tell one trained model from another, not what training it again would do.
    """
    from rich.console import Console

    from simulacra.tracking.comparison import compare_groups, read_runs, tables
    from simulacra.tracking.config import TrackingConfig
    from simulacra.tracking.store import import_mlflow

    context = KedroSession.create(save_on_close=False, env=env).load_context()
    settings = TrackingConfig.parse(context.config_loader["mlflow"])
    import_mlflow(settings.timeout)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(settings.address(context.project_path))
    console = Console()
    for comparison in compare_groups(read_runs(client, settings.experiment, run_ids, last)):
        console.print(tables(comparison))

"""What surrounds every run: a look at its inputs before it, the leaderboard and the next commands after it."""

import logging
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from kedro.framework.hooks import hook_impl

from simulacra import files
from simulacra.errors import SimulacraError
from simulacra.experiments import ASKING_PEOPLE, STAGES, command_options, load_experiments
from simulacra.models import FAMILIES, missing, refuse_missing
from simulacra.tracking import TrackingConfig

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node
    from rich.console import Console


logger = logging.getLogger(__name__)


class ProjectHooks:
    """Checks before a run that it can begin, names each node, and says after the run where the results lie.

    Attributes:
        reused: outputs that were asked for and need not be made again, by namespace.
    """

    def __init__(self) -> None:
        self.reused: dict[str, list[str]] = {}
        self._nodes = 0
        self._started = count(1)
        self._tracking_uri = self._options = ""

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Remember where the runs are tracked, and the options that further commands should share."""
        loader = context.config_loader
        self._tracking_uri = TrackingConfig.parse(loader["mlflow"]).public_uri
        self._options = command_options(loader.runtime_params or {}, context.env)

    # First of all hooks, so that a run that cannot begin is not tracked as one that began.
    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: "Pipeline", catalog: "DataCatalog") -> None:
        """Refuse a run whose free inputs are missing or damaged, or whose families need what is not installed.

        What extractors need from the network is fetched now: hours of training later would be the wrong time to fail.

        Raises:
            SimulacraError: naming the first of these, and the command that makes or installs it.
        """
        tags = {tag for node in pipeline.nodes for tag in node.tags}
        for family in sorted(FAMILIES.keys() & tags):
            refuse_missing(family)
        for experiment in load_experiments().values():
            if experiment.dataset in tags:
                for family in experiment.left_out:
                    logger.info("%s goes without %s: %s", experiment.dataset, family, missing(family))
        for name in sorted(pipeline.inputs()):
            if name.startswith("params:"):
                if name not in catalog:
                    raise SimulacraError(
                        f"the parameter {name.removeprefix('params:')} is not set; "
                        "give it in conf/base/parameters/datasets.yml or by --params"
                    )
            elif not catalog.exists(name):
                raise SimulacraError(f"{_fault(name, catalog)}: `{_command_for(name, catalog)}{self._options}`")
        _fetch_extractors(pipeline, catalog)
        self._nodes, self._started = len(pipeline.nodes), count(1)

    @hook_impl
    def before_node_run(self, node: "Node") -> None:
        """Say which node begins."""
        logger.info("%2d of %d  %s", next(self._started), self._nodes, node.name)

    @hook_impl
    def after_pipeline_run(self, pipeline: "Pipeline", catalog: "DataCatalog") -> None:
        """Print what the run made."""
        self.show_results(pipeline.all_outputs(), catalog)

    def show_results(self, made: Iterable[str], catalog: "DataCatalog") -> None:
        """Print the leaderboards of what was made or reused, where the reports lie, and what to do next."""
        made = set(made)
        wanted = made.union(*self.reused.values())
        datasets = sorted(name.split(".")[0] for name in wanted if name.endswith(".leaderboard"))
        stale = sorted({name.split(".")[0] for name in made if name.endswith(".metrics")} - set(datasets))
        drawn = [name for name in sorted(made) or sorted(wanted) if name.endswith(".drawn_pictures")]
        drawn = [] if datasets or stale else drawn
        pages = [name for name in sorted(wanted) if name.endswith(".human_page")]
        if not datasets and not stale and not drawn and not pages:
            return
        from rich.console import Console

        console = Console(width=None if Console().is_terminal else 120)
        for name in drawn:
            place = getattr(catalog.get(name), "_filepath", None)
            console.print(f"Drawn: {place}", highlight=False, soft_wrap=True, markup=False)
        for name in pages:
            place = getattr(catalog.get(name), "_filepath", None)
            console.print(f"Page for raters: {place}", highlight=False, soft_wrap=True, markup=False)
        for dataset in datasets:
            _show_leaderboard(console, catalog, dataset)
        for dataset in stale:
            command = f"kedro run --pipeline report --namespaces {dataset}{self._options}"
            console.print(f"\nLeaderboard and report of {dataset} are older than this run; renew them by:")
            console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
        if datasets:
            local = self._tracking_uri.startswith("sqlite:")
            compare = f"mlflow ui --backend-store-uri {self._tracking_uri}" if local else f"open {self._tracking_uri}"
            console.print(
                f"\nNext:\n  {compare:<52} compare runs\n  {'kedro viz run':<52} see the graph (needs the extra viz)",
                markup=False,
                highlight=False,
            )


def _fetch_extractors(pipeline: "Pipeline", catalog: "DataCatalog") -> None:
    """Download the weights that evaluations ask for, where that is allowed and they are not there.

    Raises:
        SimulacraError: where that cannot be.
    """
    for name in sorted(pipeline.inputs()):
        if name.startswith("params:") and name.endswith(".evaluation"):
            for config in getattr(catalog.load(name), "pretrained", ()):
                from simulacra.metrics.pretrained import fetch

                fetch(config)


def _show_leaderboard(console: "Console", catalog: "DataCatalog", dataset: str) -> None:
    from simulacra.report.leaderboard import leaderboard_table

    console.print(f"\n[bold]{dataset}[/bold]")
    console.print(leaderboard_table(catalog.load(f"{dataset}.leaderboard")))
    page = getattr(catalog.get(f"{dataset}.report"), "_filepath", None)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True, markup=False)


def _fault(name: str, catalog: "DataCatalog") -> str:
    """Return what is wrong with a dataset that does not exist as a whole: nothing lies in its place, or what does."""
    path = getattr(catalog.get(name), "_filepath", None)
    if path is None or not Path(str(path)).exists():
        return f"{name} is not there yet; make it"
    try:
        files.check(Path(str(path)))
    except SimulacraError as error:
        return str(error)
    return f"{path} was replaced just now; run the stage that makes it again"


def _command_for(name: str, catalog: "DataCatalog") -> str:
    """Return the command that makes a dataset: its stage, or everything where the stage lacks something itself."""
    from kedro.framework.project import pipelines

    namespace = name.split(".", maxsplit=1)[0]
    for stage in (*STAGES, *ASKING_PEOPLE):
        if name in pipelines[stage].all_outputs():
            needed = pipelines[stage].only_nodes_with_namespaces([namespace]).inputs()
            ready = all(each.startswith("params:") or catalog.exists(each) for each in needed)
            return f"kedro run{f' --pipeline {stage}' if ready else ''} --namespaces {namespace}"
    return "kedro run"

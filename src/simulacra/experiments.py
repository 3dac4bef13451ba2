"""Which dataset has which kind and families, and every experiment's own parameters built from the shared ones."""

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from kedro.config import OmegaConfigLoader

from simulacra.errors import SimulacraError
from simulacra.models import ASKED_OF_ALL, FAMILIES, missing

KINDS = ("image", "text")
STAGES = ("ingest", "preprocess", "train", "generate", "evaluate", "augment", "explore", "edit", "report")
ASKING_PEOPLE = ("human_study", "human_results")
"""Stages that wait for people to answer, and so are no part of a dataset's whole pipeline."""
RETRAINING = ("watch", "retrain", "draw_champion")
"""Stages that ask whether it is time to train anew, do so, and draw from whoever won; no part of a dataset's whole."""
SECTIONS = (
    *("split", "generation", "evaluation", "guests", "augmentation", "exploration", "editing", "language"),
    *("retraining", *ASKING_PEOPLE),
)
"""Top-level parameter blocks of which every dataset has its own copy."""
SWITCHES = ("seed", "force")
"""Top-level parameters that are no blocks."""
FOR_FAMILIES = ("training", "sampling")
"""Top-level parameter blocks of which every family has its own copy."""
SHARED = (*SWITCHES, *FOR_FAMILIES, *SECTIONS)

INNER_BLOCKS = ("model", "training", "sampling", "classifier", "exclude")
"""Keys within a block that hold a block themselves."""

MAX_SEED = 2**20
"""Seeds of parts are multiples of the run's seed, and every generator must take them."""

CONF_SOURCE = "SIMULACRA_CONF_SOURCE"
"""Environment variable that tells the registry of a `--conf-source`."""


class Experiment(NamedTuple):
    """A dataset, the kind of its data, the families that model it, and those that would if they were installed."""

    dataset: str
    kind: str
    families: tuple[str, ...]
    left_out: tuple[str, ...] = ()


class ExperimentConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with `parameters` completed so that every `<dataset>.<family>` has all of its own."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return one kind of configuration.

        Raises:
            SimulacraError: for a key that is no text, and for parameters as `expand` does.
        """
        try:
            value: dict[str, Any] = super().__getitem__(key)
        except AttributeError as error:  # Kedro takes for granted that keys are text
            raise SimulacraError(
                f"a key at the top of the {key} is a number, or true or false; quote or rename it"
            ) from error
        if key != "parameters":
            return value
        return expand(value, parse_experiments(self["experiments"]), self.runtime_params or {}, self.env)


def load_experiments() -> dict[str, Experiment]:
    """Read experiments.yml of conf/base and of the environment in use (KEDRO_ENV, else conf/local)."""
    return parse_experiments(read_config("experiments"))


def read_config(name: str) -> dict[str, Any]:
    """Return the content of a file of configuration, of conf/base and of the environment in use.

    Args:
        name: of the file, without `.yml`.
    """
    conf = os.environ.get(CONF_SOURCE) or str(project_root() / "conf")
    environment = os.environ.get("KEDRO_ENV")
    if environment and not re.fullmatch(r"\w[\w-]*", environment):
        raise SimulacraError(
            f"{environment!r} cannot name an environment; use the name of a folder in conf, such as gpu"
        )
    loader = ExperimentConfigLoader(
        conf,
        env=environment,
        base_env="base",
        default_run_env="local",
        config_patterns={name: [f"{name}.yml"]},
        merge_strategy={name: "soft"},
    )
    return loader[name]


def data_root(loader: Mapping[str, Any], project: Path) -> Path:
    """Return the folder of all data and results, as globals.yml names it; a relative one lies in the project.

    Raises:
        SimulacraError: where globals.yml does not name it, or names it by what only a shell understands.
    """
    named = str(loader["globals"].get("data_root") or "")
    if not named or named.startswith("~"):
        raise SimulacraError(f"globals.yml: data_root must be the path of a folder, such as data, got {named!r}")
    return project / named


def project_root() -> Path:
    """Return the folder of the project's pyproject.toml; for an installed package, the working folder."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def parse_experiments(raw: Mapping[str, Any]) -> dict[str, Experiment]:
    """Check the content of experiments.yml.

    Raises:
        SimulacraError: for a bad dataset name, an unknown kind or family, or an unknown key.
    """
    if not raw:
        raise SimulacraError("experiments.yml names no dataset; add one with its kind and families")
    return {name: _parse_experiment(name, entry) for name, entry in raw.items()}


def _parse_experiment(name: str, entry: Mapping[str, Any]) -> Experiment:
    taken = {*STAGES, *ASKING_PEOPLE, *RETRAINING, *SHARED, *FAMILIES, *(f"train_{family}" for family in FAMILIES)}
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or name in taken:
        raise SimulacraError(
            f"experiments.yml: {name!r} cannot name a dataset; use lower-case letters, digits and underscores, "
            "begin with a letter, and take no name of a stage or family"
        )
    if not isinstance(entry, Mapping) or not {"kind"} <= set(entry) <= {"kind", "families"}:
        raise SimulacraError(f"experiments.yml: {name} needs the keys kind and families (a list, or all), got {entry}")
    kind = entry["kind"]
    if kind not in KINDS:
        raise SimulacraError(f"experiments.yml: {name}.kind is {kind!r}; there is {', '.join(KINDS)}")
    able = [family for family, facts in FAMILIES.items() if kind in facts.kinds]
    families = entry.get("families", "all")
    if families != "all" and not (isinstance(families, list) and families):
        raise SimulacraError(
            f"experiments.yml: {name}.families must be all or a list such as [gmm, vae], got {families!r}"
        )
    if families == "all":
        left_out = tuple(family for family in able if missing(family))
        return Experiment(name, kind, tuple(sorted({*able} - {*left_out})), left_out)
    for family in families:
        if family not in able:
            raise SimulacraError(unknown(f"experiments.yml: {name}.families", str(family), able))
    return Experiment(name, kind, tuple(sorted(families)))


def expand(
    parameters: Mapping[str, Any],
    experiments: Mapping[str, Experiment],
    runtime: Mapping[str, Any],
    environment: str | None = None,
) -> dict[str, Any]:
    """Give every dataset its own sections and every `<dataset>.<family>` its own model, training and sampling block.

    Later wins: shared block, family's file, dataset's entry; then in the same order what --params says, so that
    `--params training.steps=5` reaches everything and `--params mnist.vae.training.steps=5` one family of one dataset.
    The block `experiment` says what the nodes may want to know of the run: dataset, kind, and the command's options.

    Raises:
        SimulacraError: for a name that is neither a shared block, a dataset nor a family.
    """
    _refuse_unknown(parameters, experiments)
    _refuse_wrong_types(parameters, experiments)
    expanded = {"force": False, **parameters}
    options = command_options(runtime, environment)
    for name, experiment in experiments.items():
        own, said = parameters.get(name) or {}, runtime.get(name) or {}
        about = {"dataset": name, "kind": experiment.kind, "families": experiment.families, "options": options}
        block: dict[str, Any] = {"experiment": about}
        block |= {section: merge(parameters, own, runtime, said, key=section) for section in SECTIONS}
        for section in ("evaluation", "augmentation"):
            classifier = block[section].setdefault("classifier", {})
            said_of_it = merge(runtime, said, key=section).get("classifier", {}).get("training")
            layers = [parameters.get("training"), classifier.get("training"), runtime.get("training"), said_of_it]
            classifier["training"] = _merged(layers)
        if "source" in own:
            block["source"] = own["source"]
        if isinstance(answers := block["human_results"].get("answers"), str):
            block["human_results"]["answers"] = answers.replace("{dataset}", name)
        for family in experiment.families:
            shared, said_to_all = (_for_families(layer, experiment.kind) for layer in (parameters, runtime))
            layers = [shared, parameters.get(family), own.get(family)]
            layers += [said_to_all, runtime.get(family), said.get(family)]
            block[family] = _merged(layers) | {"family": family}
        expanded[name] = block
    return expanded


def _for_families(layer: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the blocks that families share, without what those of this kind have no use for."""
    blocks = {block: dict(layer.get(block) or {}) for block in FOR_FAMILIES}
    if kind == "text":
        blocks["sampling"].pop("classes", None)
    return blocks


def command_options(runtime: Mapping[str, Any], environment: str | None) -> str:
    """Return the options of `kedro run` that give these parameters in this environment, with a leading space.

    `force` is none of them: what it does once, the command need not do whenever it is repeated.

    Example:
        >>> command_options({"seed": 1, "vae": {"model": {"beta": 2}}}, "gpu")
        ' --env gpu --params seed=1,vae.model.beta=2'
    """
    said = ",".join(f"{key}={value}" for key, value in flat(runtime).items() if key != "force")
    return (f" --env {environment}" if environment else "") + (f" --params {shlex.quote(said)}" if said else "")


def with_parameter(options: str, said: str) -> str:
    """Return the options of a command that says one more thing by --params.

    Example:
        >>> with_parameter(" --env gpu --params seed=1", "sampling.classes=7 3")
        " --env gpu --params 'seed=1,sampling.classes=7 3'"
    """
    words = shlex.split(options)
    if "--params" in words:
        words[words.index("--params") + 1] += f",{said}"
    else:
        words += ["--params", said]
    return f" {shlex.join(words)}"


def flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level of dotted keys.

    Example:
        >>> flat({"n": 3, "vae": {"model": {"beta": 1}}})
        {'n': 3, 'vae.model.beta': 1}
    """
    leaves: dict[str, Any] = {}
    for key, value in block.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def merge(*layers: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Merge the blocks that several layers hold under one key, level by level; later layers win."""
    return _merged(layer.get(key) for layer in layers)


def _merged(layers: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in (layer or {}).items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = _merged([result[key], value]) if both else deepcopy(value)
    return result


def _refuse_unknown(parameters: Mapping[str, Any], experiments: Mapping[str, Experiment]) -> None:
    known = [*SHARED, *experiments, *FAMILIES]
    for key, value in parameters.items():
        if key not in known:
            raise SimulacraError(unknown("parameter", key, known))
        inner = [*SECTIONS, "source", *FAMILIES] if key in experiments else []
        for name in value if inner and isinstance(value, Mapping) else ():
            if name not in inner:
                raise SimulacraError(unknown("parameter", f"{key}.{name}", [f"{key}.{known}" for known in inner]))
    sampling = parameters.get("sampling")
    for key in sampling if isinstance(sampling, Mapping) else ():
        if key not in ASKED_OF_ALL:
            raise SimulacraError(
                f"not every family has sampling.{key}; say it of one that has, as in diffusion.sampling.{key}"
            )


def _refuse_wrong_types(parameters: Mapping[str, Any], experiments: Mapping[str, Experiment]) -> None:
    seed = parameters.get("seed")
    if type(seed) is not int or not 0 <= seed < MAX_SEED:
        raise SimulacraError(f"the parameter seed must be a whole number from 0 to {MAX_SEED - 1}, got {seed!r}")
    force = parameters.get("force", False)
    if type(force) is not bool:
        raise SimulacraError(f"the parameter force must be true or false, got {force!r}")
    blocks = {key: value for key, value in parameters.items() if key not in SWITCHES}
    for name in experiments.keys() & blocks.keys():
        if isinstance(blocks[name], Mapping):
            blocks |= {f"{name}.{key}": value for key, value in blocks[name].items()}
    for key, value in blocks.items():
        inner = {name: value[name] for name in INNER_BLOCKS if name in value} if isinstance(value, Mapping) else {}
        for name, block in {key: value, **{f"{key}.{name}": block for name, block in inner.items()}}.items():
            if not isinstance(block, Mapping):
                raise SimulacraError(f"the parameter {name} must be a block of keys, got {block!r}")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return a message that names the unknown thing and the nearest known ones."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"unknown {what} {name!r}" + (
        f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
    )

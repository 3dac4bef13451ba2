"""The steps of one tick, as commands: look at the data, train what that asks for, and judge it against the champion."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simulacra.errors import SimulacraError

SHARED = ("preprocess", "evaluate", "augment")
"""Pipelines with nodes of the tag `shared`: what they make of a dataset is read by each of its families."""

TRAINING = ("train", "generate", "evaluate", "augment")
"""Pipelines that a family goes through on its own."""

UNATTENDED = ("--params", "training.resume=if_same")
"""Options where nobody is there to say what becomes of a checkpoint that a killed tick left, of yesterday's data."""


class Step(NamedTuple):
    """One process of a tick: a name that no other has in it, and its command."""

    name: str
    command: tuple[str, ...]


class Steps(NamedTuple):
    """A tick's steps: the first decides whether there are others, and the families' may run side by side.

    What families share is made before them: each would else make what it lacks, and lock the others out meanwhile.
    What tells of the tick runs when it is over, however it ended.
    """

    watch: Step
    prepare: Step
    families: tuple[Step, ...]
    retrain: Step
    page: Step | None = None


Commands = Callable[[str, Sequence[str]], Steps]
"""Gives the steps for a dataset and the families to be trained."""


class Decision(NamedTuple):
    """What the first step has found: whether to retrain, why or why not, and which families."""

    retrain: bool
    reasons: tuple[str, ...]
    families: tuple[str, ...]


def steps(dataset: str, families: Sequence[str], kedro: Sequence[str], options: Sequence[str] = ()) -> Steps:
    """Return the steps of a tick.

    Args:
        dataset: its name.
        families: those to be trained.
        kedro: the command that starts Kedro.
        options: further options of `kedro run`.

    Example:
        >>> " ".join(steps("mnist", ["vae"], ["kedro"]).watch.command)
        'kedro run --pipelines ingest,preprocess,watch --namespaces mnist'
    """

    def run(pipelines: Sequence[str], namespace: str, *more: str) -> tuple[str, ...]:
        return (*kedro, "run", "--pipelines", ",".join(pipelines), "--namespaces", namespace, *options, *more)

    return Steps(
        Step("watch", run(("ingest", "preprocess", "watch"), dataset)),
        Step("prepare", (*run(SHARED, dataset), "--tags", "shared")),
        tuple(Step(f"train {family}", run(TRAINING, f"{dataset}.{family}", *UNATTENDED)) for family in families),
        Step("retrain", run(("retrain",), dataset)),
        Step("page", (*kedro, "schedule", "page", dataset, *options)),
    )


def decision_place(data_root: Path, dataset: str) -> Path:
    """Return where the first step leaves what it has found."""
    return data_root / "08_reporting" / dataset / "retrain_decision.json"


def gate_place(data_root: Path, dataset: str) -> Path:
    """Return where the last step leaves what the gate has decided."""
    return data_root / "08_reporting" / dataset / "gate.json"


def read_winner(place: Path, key: str) -> str:
    """Return who passed the gate in the tick of a key, in words; nothing where that is not known."""
    try:
        record = json.loads(place.read_text())
        ours, winner = record["key"] == key, record["winner"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"{winner or 'none'} passed the gate" if ours else ""


def read_decision(place: Path) -> Decision:
    """Return what the first step has found.

    Raises:
        SimulacraError: where the file is not there or is no such record; names it.
    """
    try:
        return _decision(json.loads(place.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SimulacraError(f"{place} does not say whether to retrain: {type(error).__name__} {error}") from error


def _decision(record: Mapping[str, Any]) -> Decision:
    reasons, families = (tuple(map(str, record[key])) for key in ("reasons", "families"))
    if type(record["retrain"]) is not bool:
        raise ValueError(f"retrain is {record['retrain']!r}")
    for family in families:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", family):
            raise ValueError(f"{family!r} names no family")
    return Decision(record["retrain"], reasons, families)

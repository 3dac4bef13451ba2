"""Checkpoints as sealed folders of safetensors and JSON, one a step; the newest whole one is gone on from."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from simulacra import files
from simulacra.errors import SimulacraError

logger = logging.getLogger(__name__)

States = Mapping[str, Mapping[str, Tensor]]
"""Named state dictionaries, such as {"module": module.state_dict()}."""


class OtherTraining(SimulacraError):
    """The checkpoint is of other data, another model or other settings."""


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds.

    Args:
        step: optimiser steps that were complete.
        states: the state dictionaries by name.
        facts: the JSON-able rest, `identity` among it.
    """

    step: int
    states: States
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> None:
    """Write one checkpoint, and remove all but the `keep` up to it; a name in `states` may not hold a slash.

    A disk that is full, or gone, costs the checkpoint and a warning, not the training.
    """
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, state in checkpoint.states.items()
        for key, value in state.items()
    }

    def fill(scratch: Path) -> None:
        scratch.mkdir()
        save_file(tensors, scratch / "tensors.safetensors")
        (scratch / "facts.json").write_text(json.dumps(checkpoint.facts | {"step": checkpoint.step}))

    need = sum(tensor.nbytes for tensor in tensors.values())
    place = folder / f"step-{checkpoint.step:09d}"
    try:
        files.write(place, fill, need=need)
        places = _places(folder)
        own = places.index(place) + 1
        # Later steps than this one are of a training that was given up, or were passed over as damaged.
        for old in (*places[own:], *places[:own][:-keep]):
            files.remove(old)
    except (OSError, SimulacraError) as error:
        logger.warning("the checkpoint of step %d could not be kept, training goes on: %s", checkpoint.step, error)


def load(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None where there is none; damaged ones are passed over with a warning.

    Raises:
        OtherTraining: where the checkpoint was written under another identity; names the differing keys.
    """
    for place in reversed(_places(folder)):
        try:
            found = files.read(place, _open)
            saved = found.facts["identity"]
        except (SimulacraError, SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("passed over a checkpoint: %s: %s", place, error)
            continue
        _check_identity(place, saved, identity)
        return found
    return None


def _open(place: Path) -> Checkpoint:
    facts = json.loads((place / "facts.json").read_text())
    states: dict[str, dict[str, Tensor]] = {}
    for full_key, value in load_file(place / "tensors.safetensors").items():
        name, key = full_key.split("/", 1)
        states.setdefault(name, {})[key] = value
    return Checkpoint(facts["step"], states, facts)


def clear(folder: Path) -> None:
    """Remove all checkpoints, for once what they led to has been kept elsewhere."""
    for place in _places(folder):
        files.remove(place)


def exist(folder: Path) -> bool:
    """Tell whether there is any checkpoint."""
    return bool(_places(folder))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's moments and counters as flat tensors, keyed `<parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, row in state.items() for name, value in row.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of `optimizer_tensors` back, each moment in its parameter's memory format.

    A fused step walks parameter and moments side by side in memory: a contiguous moment beside a channels_last weight
    would be applied to the wrong entries, without an error.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        like = parameters[int(index)]
        moment = torch.empty_like(like, dtype=value.dtype) if value.shape == like.shape else torch.empty_like(value)
        state.setdefault(int(index), {})[name] = moment.copy_(value)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _places(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _check_identity(place: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    then, now = dict(_flat(saved)), dict(_flat(wanted))
    differing = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    if differing:
        changes = "; ".join(f"{key}: {then.get(key)} then, {now.get(key)} now" for key in differing)
        raise OtherTraining(
            f"an interrupted training left {place}, but under other settings ({changes}). "
            f"Run again with the settings of then, delete {place.parent}, or set training.resume=false."
        )


def _flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

"""Checkpoints as safetensors and JSON: one folder a step, written beside its place and renamed."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from simulacra.errors import SimulacraError

KEEP = 2

States = Mapping[str, Mapping[str, Tensor]]
"""Named state dictionaries, such as {"module": module.state_dict()}."""


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


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write one checkpoint and remove all but the newest two; a name in `states` may not hold a slash."""
    place = folder / f"step-{checkpoint.step:09d}"
    scratch = folder / f".{place.name}.{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, state in checkpoint.states.items()
        for key, value in state.items()
    }
    save_file(tensors, scratch / "tensors.safetensors")
    (scratch / "facts.json").write_text(json.dumps(checkpoint.facts | {"step": checkpoint.step}))
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)
    for old in _whole(folder)[:-KEEP]:
        shutil.rmtree(old)


def load(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Return the newest checkpoint, or None where there is none.

    Raises:
        SimulacraError: where the checkpoint was written under another identity; names the differing keys.
    """
    places = _whole(folder)
    if not places:
        return None
    facts = json.loads((places[-1] / "facts.json").read_text())
    _check_identity(places[-1], facts["identity"], identity)
    states: dict[str, dict[str, Tensor]] = {}
    for full_key, value in load_file(places[-1] / "tensors.safetensors").items():
        name, key = full_key.split("/", 1)
        states.setdefault(name, {})[key] = value
    return Checkpoint(facts["step"], states, facts)


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for place in _whole(folder):
        shutil.rmtree(place)


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


def _whole(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _check_identity(place: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
    if differing:
        changes = "; ".join(f"{key}: {saved.get(key)} then, {wanted.get(key)} now" for key in differing)
        raise SimulacraError(
            f"an interrupted training left {place}, but under other settings ({changes}). "
            f"Run again with the settings of then, delete {place.parent}, or set training.resume=false."
        )

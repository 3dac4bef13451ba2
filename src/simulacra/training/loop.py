"""The one training loop that every neural family and classifier goes through."""

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.training import checkpoint
from simulacra.training.batches import Batch, ImageBatches
from simulacra.training.config import TrainingConfig
from simulacra.training.device import autocast, place
from simulacra.training.ema import Ema
from simulacra.training.history import Callback, History
from simulacra.training.progress import Progress
from simulacra.training.schedule import learning_rate_factor
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable

logger = logging.getLogger(__name__)


class TrainingDiverged(SimulacraError):
    """The loss or its gradient stopped being finite."""


@dataclass
class _Run:
    """Everything that changes while training, beside weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)
    stale: int = 0
    history: History = field(default_factory=History)


def train(
    module: Trainable,
    data: ImageSet,
    config: TrainingConfig,
    *,
    seed: int,
    validation: ImageSet | None = None,
    checkpoints: Path | None = None,
    callbacks: Sequence[Callback] = (),
    title: str = "training",
) -> History:
    """Minimise `module.loss` in place; the module ends on the CPU in eval mode, with averaged weights if `ema_decay`.

    With `patience`, training stops when the validation loss has not improved for so many validations, and the best
    weights are kept. With `checkpoints`, an interrupted run goes on from the newest one there.

    Args:
        module: the network.
        data: what to train on.
        config: budget and optimiser.
        seed: decides the order of the data; weights and noise come from torch's global generator.
        validation: held-out examples; a loss over them is recorded every `validate_every` steps.
        checkpoints: folder for checkpoints; None writes none.
        callbacks: called at every point of a curve.
        title: what the progress bar says.

    Raises:
        TrainingDiverged: at the first loss or gradient norm that is not finite; the last checkpoint stays.
        SimulacraError: where a checkpoint of other settings lies in the way.
    """
    device, precision = place(module, config)
    batches = ImageBatches(data, batch_size=config.batch_size, seed=seed, device=device)
    held_out = ImageBatches(validation, batch_size=256, seed=0, device=device).in_order() if validation else []
    optimizer = torch.optim.AdamW(
        module.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    ema = Ema(module, config.ema_decay) if config.ema_decay else None
    folder = checkpoints if config.checkpoint_minutes else None
    identity = _identity(module, data, validation, config, seed) if folder else {}
    run = _resumed(folder, module, optimizer, ema, identity) if folder and config.resume else _Run()
    saved, began = time.monotonic(), time.monotonic() - run.seconds

    def record(split: str, values: Mapping[str, float]) -> None:
        run.history.add(run.step, split, values)
        for callback in callbacks:
            callback(run.step, split, values)

    module.train()
    with Progress(title, done=run.step, steps=config.steps) as progress:
        while run.step < config.steps and not (config.patience and run.stale >= config.patience):
            rate = config.learning_rate * learning_rate_factor(config, run.step)
            values = _step(module, batches.at(run.step), optimizer, config, rate, autocast(precision, device))
            run.step += 1
            if ema:
                ema.update(module, run.step)
            last = run.step == config.steps
            reading = last or run.step % config.log_every == 0
            if reading:
                record("train", _finite(values, run.step, folder) | {"learning_rate": rate})
            progress.advance(float(values["loss"]) if reading else None)
            if held_out and (last or run.step % config.validate_every == 0):
                with _weights(module, ema):
                    scores = _validate(module, held_out)
                    record("validation", scores)
                    _note_best(run, module, scores["loss"], keep=config.patience > 0)
            if folder and time.monotonic() - saved > 60 * config.checkpoint_minutes:
                _finite(values, run.step, folder)
                run.seconds, saved = time.monotonic() - began, time.monotonic()
                checkpoint.save(folder, _checkpoint(run, module, optimizer, ema, identity))

    if run.best_state or ema:
        module.load_state_dict(run.best_state or (ema.state if ema else {}))
    module.cpu().to(memory_format=torch.contiguous_format).eval()
    if folder:
        checkpoint.clear(folder)
    run.history.facts = _facts(run, config, device, precision, time.monotonic() - began)
    return run.history


def _step(
    module: Trainable,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    rate: float,
    arithmetic: Any,
) -> dict[str, Tensor]:
    with arithmetic:
        values = module.loss(batch)
    optimizer.zero_grad(set_to_none=True)
    values["loss"].backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(module.parameters(), config.gradient_clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return {name: value.detach() for name, value in values.items()} | {"gradient_norm": norm}


def _finite(values: Mapping[str, Tensor], step: int, folder: Path | None) -> dict[str, float]:
    """Read the values from the device; not every step, since on a GPU each reading waits for it."""
    read = {name: float(value) for name, value in values.items()}
    bad = [f"{name} = {value}" for name, value in read.items() if not math.isfinite(value)]
    if bad:
        kept = f"The last finite checkpoints are in {folder}. " if folder and any(folder.glob("step-*")) else ""
        raise TrainingDiverged(
            f"training diverged by step {step}: {', '.join(bad)}. {kept}"
            "Lower training.learning_rate, or set training.gradient_clip or training.precision=fp32."
        )
    return read


@torch.no_grad()
def _validate(module: Trainable, batches: Sequence[Batch]) -> dict[str, float]:
    """Average the loss over the held-out rows, with the same noise each time so that the curve compares."""
    totals: dict[str, float] = {}
    with seeded(0):
        for batch in batches:
            for name, value in module.loss(batch).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch.x)
    rows = sum(len(batch.x) for batch in batches)
    return {name: total / rows for name, total in totals.items()}


@contextmanager
def _weights(module: nn.Module, ema: Ema | None) -> Iterator[None]:
    """Lend the module the averaged weights, in eval mode."""
    module.eval()
    own = {key: value.clone() for key, value in module.state_dict().items()} if ema else {}
    if ema:
        module.load_state_dict(ema.state)
    yield
    if ema:
        module.load_state_dict(own)
    module.train()


def _note_best(run: _Run, module: nn.Module, loss: float, *, keep: bool) -> None:
    run.stale = 0 if loss < run.best_loss else run.stale + 1
    if run.stale == 0:
        run.best_loss = loss
        if keep:
            run.best_state = {key: value.clone() for key, value in module.state_dict().items()}


def _identity(
    module: Trainable, data: ImageSet, validation: ImageSet | None, config: TrainingConfig, seed: int
) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to be gone on from."""
    shapes = [(key, tuple(value.shape)) for key, value in module.state_dict().items()]
    free = {"checkpoint_minutes", "resume", "device"}
    return {
        "data": data.fingerprint()[:16],
        "validation": validation and validation.fingerprint()[:16],
        "settings": module.settings(),
        "architecture": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16],
        "seed": seed,
        **{f"training.{key}": value for key, value in config.model_dump(exclude=free).items()},
    }


def _checkpoint(
    run: _Run, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, identity: dict[str, Any]
) -> checkpoint.Checkpoint:
    states = {
        "module": module.state_dict(),
        "ema": ema.state if ema else {},
        "best": run.best_state,
        "optimizer": checkpoint.optimizer_tensors(optimizer),
        "generator": {"cpu": torch.get_rng_state()},
    }
    facts = {"identity": identity, "seconds": run.seconds, "stale": run.stale, "points": run.history.points}
    # JSON has no infinity: a run that has not been validated yet has no best loss.
    facts["best_loss"] = run.best_loss if math.isfinite(run.best_loss) else None
    return checkpoint.Checkpoint(run.step, states, facts)


def _resumed(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, identity: Mapping[str, Any]
) -> _Run:
    found = checkpoint.load(folder, identity)
    if found is None:
        return _Run()
    device = next(module.parameters()).device
    module.load_state_dict(found.states["module"])
    if ema:
        ema.state = {key: value.to(device) for key, value in found.states["ema"].items()}
    checkpoint.restore_optimizer(optimizer, found.states["optimizer"])
    torch.set_rng_state(found.states["generator"]["cpu"])
    best = {key: value.to(device) for key, value in found.states.get("best", {}).items()}
    best_loss = math.inf if found.facts["best_loss"] is None else found.facts["best_loss"]
    history = History(points=found.facts["points"])
    logger.info("goes on from step %d of an interrupted training in %s", found.step, folder)
    return _Run(found.step, found.facts["seconds"], best_loss, best, found.facts["stale"], history)


def _facts(run: _Run, config: TrainingConfig, device: torch.device, precision: str, seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "steps": run.step,
        "stopped_early": run.step < config.steps,
        "device": str(device),
        "precision": precision,
        "ema": config.ema_decay > 0,
    }

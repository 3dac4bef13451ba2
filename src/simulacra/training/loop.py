"""The one training loop that every neural family and classifier goes through."""

import hashlib
import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simulacra.errors import SimulacraError
from simulacra.training import checkpoint, distributed, interruption
from simulacra.training.batches import Batch, Batches, Examples, batches_of
from simulacra.training.config import RUNTIME, TrainingConfig
from simulacra.training.device import autocast, place, resolve_compile
from simulacra.training.history import Callback, History
from simulacra.training.progress import Progress
from simulacra.training.schedule import learning_rate_factor
from simulacra.training.state import TrainingState
from simulacra.training.trainable import Trainable

logger = logging.getLogger(__name__)


class TrainingDiverged(SimulacraError):
    """The loss or its gradient stopped being finite."""


def train(
    module: Trainable,
    data: Examples,
    config: TrainingConfig,
    *,
    seed: int,
    validation: Examples | None = None,
    checkpoints: Path | None = None,
    callbacks: Sequence[Callback] = (),
    watch: Callable[[], Mapping[str, float]] | None = None,
    title: str = "training",
) -> History:
    """Minimise `module.loss` in place; the module ends on the CPU in eval mode, with averaged weights if `ema_decay`.

    With `patience`, training stops when the validation loss has not improved for so many validations, and the best
    weights are kept. With `checkpoints`, an interrupted run goes on from the newest whole one there, and a finished one
    leaves its last there, so that nothing is lost until the caller has kept the result and clears the folder.

    Args:
        module: the network.
        data: what to train on.
        config: budget and optimiser.
        seed: decides the order of the data and the noise; the initial weights are the module's own.
        validation: held-out examples; a loss over them is recorded every `validate_every` steps.
        checkpoints: folder for checkpoints; None writes none.
        callbacks: called at every point of a curve.
        watch: called every `watch_every` steps, while the module is in eval mode, with the averaged weights unless it
            is `watched_as_averaged` no; what it returns is a point of the split "samples".
        title: what the progress bar says.

    Raises:
        TrainingDiverged: at the first loss or gradient norm that is not finite; the last checkpoint stays.
        SimulacraError: where a checkpoint of other settings lies in the way.
        Interrupted: at the end of the step in which a signal came, after a checkpoint; of several processes, at the
            next point of a curve.
    """
    device, precision = place(module, config)
    rank, world = distributed.here()
    batches = batches_of(data, batch_size=config.batch_size, seed=seed, device=device, rank=rank, world=world)
    held_out = batches_of(validation, batch_size=256, seed=0, device=device) if validation else None
    state = TrainingState(module, config, callbacks)
    keeper = _Keeper(state, checkpoints, lambda: _identity(module, data, validation, config, seed, precision))
    keeper.resume()
    compiled = resolve_compile(config, device, module)
    loss = distributed.shared_loss(module, compiled=compiled)
    module.train()
    shown = Progress(title, done=state.step, steps=config.steps, hidden=rank > 0)
    with shown as progress, interruption.listening():
        while not state.finished:
            rate = config.learning_rate * learning_rate_factor(config, state.step)
            values = _step(state, loss, batches.at(state.step), rate, precision)
            state.advance()
            last = state.step == config.steps
            # Not every step, since on a GPU each reading waits for the device.
            reading = last or state.step % config.log_every == 0
            if reading:
                means = keeper.finite(distributed.mean(values))
                state.record("train", means | {"learning_rate": rate})
            progress.advance(next(iter(means.values())) if reading else None)
            if held_out and (last or state.step % config.validate_every == 0):
                with state.averaged():
                    state.note_validation(keeper.finite(_validate(module, held_out)))
            if watch and config.watch_every and state.step % config.watch_every == 0:
                with state.averaged() if module.watched_as_averaged else state.evaluated():
                    state.record("samples", distributed.from_leader(watch))
            keeper.keep(values, reading=reading)

    state.conclude()
    state.history.facts = _facts(state, device, precision, keeper.seconds()) | {"compiled": compiled}
    return state.history


def _step(state: TrainingState, loss: distributed.Loss, batch: Batch, rate: float, precision: str) -> dict[str, Tensor]:
    """Move the weights once by each update whose turn it is; return losses and gradient norms, still on the device."""
    found: dict[str, Tensor] = {}
    for number, update in enumerate(state.updates):
        if (state.step + 1) % update.every:
            continue
        with autocast(precision, batch.x.device):
            values = loss(number, batch)
        optimizers = state.optimizers[update.name]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(update.parameters, state.config.gradient_clip or math.inf)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * update.rate
            optimizer.step()
        prefix = f"{update.name}_" if update.name else ""
        found |= {f"{prefix}{name}": value.detach() for name, value in values.items()}
        found[f"{prefix}gradient_norm"] = norm
    return found


def _validate(module: Trainable, held_out: Batches) -> dict[str, float]:
    """Average the loss over the held-out rows, with the same noise each time so that the curve compares.

    One process does it for all: where two differ in a last digit, patience must not end for one of them only.
    """

    @torch.no_grad()
    def average() -> dict[str, float]:
        totals: dict[str, float] = {}
        for batch in held_out.in_order():
            for name, value in module.loss(batch).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch.x)
        return {name: total / len(held_out) for name, total in totals.items()}

    return distributed.from_leader(average)


class _Keeper:
    """Puts the state aside now and then, and looks at the numbers before it does."""

    def __init__(self, state: TrainingState, folder: Path | None, identity: Callable[[], dict[str, Any]]) -> None:
        config = state.config
        self.state = state
        self.folder = folder if config.checkpoint_minutes or config.checkpoint_steps else None
        self.identity = identity() if self.folder else {}
        self.saved = self.began = time.monotonic()

    def resume(self) -> None:
        """Take up the newest whole checkpoint, where there is one."""
        folder = self.folder
        if folder is None:
            return
        # Processes that begin again after one died go on, whatever they were told of earlier trainings.
        if not (self.state.config.resume or distributed.attempt()):
            distributed.from_leader(lambda: checkpoint.clear(folder))
            return
        # The others may be on hosts that do not see the folder.
        found = distributed.from_leader(lambda: self._found(folder))
        if found is None:
            return
        self.state.restore(found)
        self.began -= found.facts["seconds"]
        logger.info("goes on from step %d of an interrupted training in %s", found.step, self.folder)
        if found.facts["code"] != self.state.code:
            logger.warning("this training began under other code of the project than it goes on with")
        if found.facts["threads"] != torch.get_num_threads():
            logger.warning(
                "this training began with %d threads and goes on with %d: its last digits may differ from those of a "
                "training with %d all along",
                *(found.facts["threads"], torch.get_num_threads(), found.facts["threads"]),
            )

    def _found(self, folder: Path) -> checkpoint.Checkpoint | None:
        """Return the newest whole checkpoint; none, and remove them all, where they may be of another training."""
        try:
            return checkpoint.load(folder, self.identity)
        except checkpoint.OtherTraining as error:
            if self.state.config.resume != "if_same":
                raise
            logger.warning("begins anew, and removes what is of no use any more: %s", str(error).split(". ")[0])
            checkpoint.clear(folder)
            return None

    def keep(self, values: Mapping[str, Tensor], *, reading: bool) -> None:
        """Save where it is time to, or where this step is the last, by plan or by a signal.

        Raises:
            TrainingDiverged: where what would be saved is not finite.
            Interrupted: after saving, where a signal came.
        """
        stop, late = False, False
        # Processes must not part: all save and all stop at the same step. On GPUs agreeing takes as long as a reading.
        if reading or not distributed.on_gpus():
            stop, late = distributed.agree(interruption.requested() is not None, self.late())
        if stop or late or self.due() or self.state.finished:
            self.finite(distributed.mean(values))
            self.save()
        if stop:
            raise interruption.requested() or interruption.Interrupted(signal.SIGTERM)

    def due(self) -> bool:
        """Tell whether a checkpoint is due by step."""
        every = self.state.config.checkpoint_steps
        return bool(self.folder and every and self.state.step % every == 0)

    def late(self) -> bool:
        """Tell whether a checkpoint is due by the clock."""
        minutes = self.state.config.checkpoint_minutes
        return bool(self.folder and minutes and time.monotonic() - self.saved > 60 * minutes)

    def save(self) -> None:
        """Write a checkpoint; in a distributed training the leading process does it for all."""
        self.saved = time.monotonic()
        if self.folder and distributed.here().leads:
            self.state.seconds = self.seconds()
            checkpoint.save(self.folder, self.state.checkpoint(self.identity), keep=self.state.config.keep_last)

    def seconds(self) -> float:
        """Return the time trained so far, interrupted parts of it included."""
        return time.monotonic() - self.began

    def finite(self, values: dict[str, float]) -> dict[str, float]:
        """Return the values, or stop the training where one of them is not finite."""
        bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            kept = self.folder and checkpoint.exist(self.folder)
            raise TrainingDiverged(
                f"training diverged by step {self.state.step}: {', '.join(bad)}. "
                + (f"The last finite checkpoints are in {self.folder}. " if kept else "")
                + "Lower training.learning_rate, or set training.gradient_clip or training.precision=fp32."
            )
        return values


def _identity(
    module: Trainable,
    data: Examples,
    validation: Examples | None,
    config: TrainingConfig,
    seed: int,
    precision: str,
) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to be gone on from."""
    shapes = [(key, tuple(value.shape)) for key, value in module.state_dict().items()]
    return {
        "data": data.fingerprint()[:16],
        "validation": validation and validation.fingerprint()[:16],
        "model": module.settings(),
        "begun_from": module.begun_from,
        "architecture": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16],
        "seed": seed,
        "precision": precision,
        "training": config.model_dump(exclude={*RUNTIME, "device"}),
    }


def _facts(state: TrainingState, device: torch.device, precision: str, seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "steps": state.step,
        "stopped_early": state.step < state.config.steps,
        "device": str(device),
        "precision": precision,
        "ema": state.config.ema_decay > 0,
    }

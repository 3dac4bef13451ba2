"""Everything that changes while a network is trained, as one thing that can be put aside and taken up again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from simulacra.code_version import code_version
from simulacra.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from simulacra.training.config import TrainingConfig
from simulacra.training.ema import Ema
from simulacra.training.history import Callback, History
from simulacra.training.optimizers import optimizers_of
from simulacra.training.trainable import Trainable


class TrainingState:
    """Weights, their average, the optimisers, the best validation, the curves and the clock.

    Order of the data, noise and learning rate are functions of seed and step, so the step is all there is to keep of
    them.

    Args:
        module: the network, on its device.
        config: budget and optimiser.
        callbacks: called at every point of a curve.
    """

    def __init__(self, module: Trainable, config: TrainingConfig, callbacks: Sequence[Callback] = ()) -> None:
        self.module, self.config, self.callbacks = module, config, callbacks
        self.code = code_version(type(module))
        self.updates = module.updates()
        self.optimizers = {update.name: optimizers_of(update, config) for update in self.updates}
        self.ema = Ema(module, config.ema_decay, module.averages) if config.ema_decay else None
        self.keep_best = config.keep_best or config.patience > 0
        self.step = 0
        self.seconds = 0.0
        self.best_loss = math.inf
        self.best: dict[str, Tensor] = {}
        self.stale = 0
        self.history = History()

    @property
    def finished(self) -> bool:
        """Whether the budget is used up, or patience is."""
        return self.step >= self.config.steps or bool(self.config.patience and self.stale >= self.config.patience)

    def advance(self) -> None:
        """Count a step, and move the average."""
        self.step += 1
        if self.ema:
            self.ema.update(self.module, self.step)

    def record(self, split: str, values: Mapping[str, float]) -> None:
        """Add a point to the curves, and tell the callbacks."""
        self.history.add(self.step, split, values)
        for callback in self.callbacks:
            callback(self.step, split, values)

    def note_validation(self, scores: Mapping[str, float]) -> None:
        """Record a validation, and count those without progress; the best weights are kept where they are wanted."""
        self.record("validation", scores)
        loss = scores["loss"]
        self.stale = 0 if loss < self.best_loss else self.stale + 1
        if self.stale == 0:
            self.best_loss = loss
            if self.keep_best:
                self.best = {key: value.clone() for key, value in self.module.state_dict().items()}

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Lend the module as it is, in eval mode."""
        self.module.eval()
        try:
            yield
        finally:
            self.module.train()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Lend the module with the averaged weights, in eval mode."""
        own = {key: value.clone() for key, value in self.module.state_dict().items()} if self.ema else {}
        if self.ema:
            self.module.load_state_dict(self.ema.state)
        try:
            with self.evaluated():
                yield
        finally:
            if self.ema:
                self.module.load_state_dict(own)

    def conclude(self) -> None:
        """Leave the module on the CPU in eval mode, with the best or the averaged weights where there are any."""
        if self.best or self.ema:
            self.module.load_state_dict(self.best or (self.ema.state if self.ema else {}))
        self.module.cpu().to(memory_format=torch.contiguous_format).eval()

    def checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """Return all of it for keeping."""
        states = {
            "module": self.module.state_dict(),
            "ema": self.ema.state if self.ema else {},
            "best": self.best,
            **{key: optimizer_tensors(optimizer) for key, optimizer in self._named_optimizers()},
        }
        facts = {
            "identity": dict(identity),
            "threads": torch.get_num_threads(),
            "code": self.code,
            "seconds": self.seconds,
            "stale": self.stale,
            # JSON has no infinity: a run that has not been validated yet has no best loss.
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "points": self.history.points,
        }
        return Checkpoint(self.step, states, facts)

    def _named_optimizers(self) -> Iterator[tuple[str, Optimizer]]:
        for name, several in self.optimizers.items():
            yield from ((f"optimizer {name} {type(each).__name__}", each) for each in several)

    def restore(self, found: Checkpoint) -> None:
        """Take up what `checkpoint` returned."""
        device = next(self.module.parameters()).device
        self.module.load_state_dict(found.states["module"])
        if self.ema:
            self.ema.state = {key: value.to(device) for key, value in found.states["ema"].items()}
        for key, optimizer in self._named_optimizers():
            restore_optimizer(optimizer, found.states.get(key, {}))
        self.best = {key: value.to(device) for key, value in found.states.get("best", {}).items()}
        self.best_loss = math.inf if found.facts["best_loss"] is None else found.facts["best_loss"]
        self.step, self.seconds, self.stale = found.step, found.facts["seconds"], found.facts["stale"]
        self.history.points = found.facts["points"]

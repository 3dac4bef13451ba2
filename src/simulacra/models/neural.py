"""What families that are trained by gradient share: networks built at fit, seeded training, weights as tensors."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulacra.data.image_set import ImageSet
from simulacra.models.base import D, GenerativeModel, ImageModel, ModelConfig
from simulacra.sentinels.rules import GRACE, Sentinel, alarm
from simulacra.sentinels.samples import SampleWatch
from simulacra.training import distributed, loop
from simulacra.training.batches import Examples
from simulacra.training.config import TrainingConfig
from simulacra.training.history import Callback, History, overheard
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable

logger = logging.getLogger(__name__)

MEANINGS = ("shape", "class_names", "tokenizer", "source_sha256")
"""Facts of a model that say what its network's inputs and outputs stand for."""


class Start(NamedTuple):
    """Weights that a fit begins from, by name, what its network's numbers stand for, and the model's hash."""

    weights: dict[str, Tensor]
    meanings: dict[str, Any]
    sha256: str


class NeuralModel(GenerativeModel[D]):
    """A family whose only state is one network.

    A subclass defines `build`, which returns the network for what is known of the data, and what it learns from them.
    """

    network: Trainable
    start: Start | None = None

    @abstractmethod
    def build(self) -> Trainable:
        """Return an untrained network for data such as were remembered."""

    @abstractmethod
    def examples(self, data: D) -> Examples:
        """Return what the network learns from some data."""

    def watcher(self, train: D, training: TrainingConfig) -> Callable[[], Mapping[str, float]] | None:
        """Return a look at samples of the network as it is; None for none."""
        return None

    def fit(
        self,
        train: D,
        *,
        validation: D | None = None,
        training: TrainingConfig,
        seed: int = 0,
        checkpoints: Path | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Build the network and train it through the shared loop, in `training.processes` processes.

        Of several processes, callbacks hear the curves only once the training is over.
        """
        self.remember(train)
        options: dict[str, Any] = {"validation": validation, "seed": seed, "checkpoints": checkpoints}
        if distributed.here().world > 1:
            return self._fit_here(train, training, **options)
        with overheard(callbacks) as hearing:
            hearing.append(alarm(Sentinel(grace=round(GRACE * training.steps)), self.name, [*hearing]))
            if training.processes * training.hosts == 1:
                return self._fit_here(train, training, callbacks=hearing, **options)
            share = (type(self), self.config, self.start, train, training, options)
            tensors, history = distributed.run(_fit_share, share, training)
            self.restore(tensors)
            for callback in hearing:
                history.replay(callback)
            return history

    def begin_from(self, former: GenerativeModel[Any]) -> None:
        """Let the next `fit` begin from another model's weights, where they are of such a network as this one's.

        What is not learnt by gradient is found anew: statistics, a density of codes, what words mean. Networks that
        begin so may end a little worse than new ones: Ash & Adams (2020), arXiv:1910.08475.
        """
        if isinstance(former, NeuralModel) and former.name == self.name:
            weights = {key: value.detach().clone() for key, value in former.network.named_parameters()}
            self.start = Start(weights, _meanings(former), former.fingerprint())

    def _fit_here(self, train: D, training: TrainingConfig, *, seed: int, **options: Any) -> History:
        with seeded(seed):
            self.network = self.build()
        return self.learn(train, training, seed=seed, **options)

    def learn(self, train: D, training: TrainingConfig, **options: Any) -> History:
        """Train the network through the shared loop and return its curves; a family with more to learn extends this.

        Args:
            train: the data.
            training: the budget.
            options: the rest of what the loop is told: validation, seed, checkpoints, callbacks.
        """
        watch = self.watcher(train, training) if training.watch_every else None
        held_out = options.pop("validation", None)
        validation = held_out and self.examples(held_out)
        self._take_up()
        history = loop.train(
            self.network, self.examples(train), training, validation=validation, watch=watch, title=self.name, **options
        )
        if self.network.begun_from:
            history.facts["begun_from"] = self.network.begun_from
        return history

    @torch.no_grad()
    def _take_up(self) -> None:
        """Put the weights that the fit is to begin from into the network, where they are of such a one."""
        if self.start is None:
            return
        own = dict(self.network.named_parameters())
        shapes, its = ({key: value.shape for key, value in each.items()} for each in (own, self.start.weights))
        if shapes != its or self.start.meanings != _meanings(self):
            if distributed.here().leads:
                logger.warning(
                    "%s: begins anew, since the model that it was to begin from is of another make", self.name
                )
            return
        for key, value in self.start.weights.items():
            own[key].copy_(value)
        self.network.begun_from = self.start.sha256

    def n_parameters(self) -> int:
        """Count the trainable numbers."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the network's state."""
        return {key: value.numpy() for key, value in self.network.state_dict().items()}

    def restore(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Rebuild the network and load its state."""
        self.network = self.build()
        self.network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in tensors.items()})
        self.network.eval()


class NeuralImageModel(NeuralModel[ImageSet], ImageModel):
    """A family of images whose only state is one network."""

    samples_while_training: ClassVar[bool] = True
    """Whether the network's weights are all that `sample` needs, so that it can be watched while they are learnt."""

    def examples(self, data: ImageSet) -> ImageSet:
        """Return what the network learns from images: they and their classes, unless a family has more to tell."""
        return data

    def watcher(self, train: ImageSet, training: TrainingConfig) -> Callable[[], Mapping[str, float]] | None:
        """Return a look at samples of the network as it is."""
        if not self.samples_while_training:
            return None
        beside = SampleWatch(train, n=training.watch_samples)

        def look() -> Mapping[str, float]:
            # Samplers work where their random numbers are made, on the CPU.
            twin = copy(self)
            twin.network = deepcopy(self.network).cpu()
            return beside.look(twin.sample(beside.n, seed=0))

        return look


def _meanings(model: GenerativeModel[Any]) -> dict[str, Any]:
    facts = model.facts()
    return {key: facts[key] for key in MEANINGS if key in facts}


def _fit_share(
    family: type[NeuralModel[D]],
    config: ModelConfig,
    start: Start | None,
    train: D,
    training: TrainingConfig,
    options: dict[str, Any],
) -> tuple[dict[str, NDArray[Any]], History]:
    """Fit a family as one of several processes; return what it learnt, and the curves."""
    model = family(config)
    model.start = start
    history = model.fit(train, training=training, **options)
    return model.tensors(), history

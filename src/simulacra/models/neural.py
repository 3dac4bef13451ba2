"""What families that are trained by gradient share: networks built at fit, seeded training, weights as tensors."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

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


class NeuralModel(GenerativeModel[D]):
    """A family whose only state is one network.

    A subclass defines `build`, which returns the network for what is known of the data, and what it learns from them.
    """

    network: Trainable

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
            share = (type(self), self.config, train, training, options)
            tensors, history = distributed.run(_fit_share, share, training)
            self.restore(tensors)
            for callback in hearing:
                history.replay(callback)
            return history

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
        return loop.train(
            self.network, self.examples(train), training, validation=validation, watch=watch, title=self.name, **options
        )

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


def _fit_share(
    family: type[NeuralModel[D]], config: ModelConfig, train: D, training: TrainingConfig, options: dict[str, Any]
) -> tuple[dict[str, NDArray[Any]], History]:
    """Fit a family as one of several processes; return what it learnt, and the curves."""
    model = family(config)
    history = model.fit(train, training=training, **options)
    return model.tensors(), history

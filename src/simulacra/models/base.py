"""The one interface of a generative family."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from simulacra.data.captions import Captions
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import Likelihood
from simulacra.models import ASKED_OF_ALL, FAMILIES
from simulacra.training.config import TrainingConfig
from simulacra.training.history import Callback, History


class Prompt(NamedTuple):
    """What is asked for in words, such as "a thick slanted seven"."""

    text: str


Condition = int | str | Prompt | Sequence[int] | Sequence[Prompt] | NDArray[np.int64] | None
"""A class by index or name, a prompt, one index or prompt a sample, or None: classes as frequent as in the data."""


class ModelConfig(BaseModel):
    """Base of every family's hyper-parameters: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fingerprinted(Protocol):
    """Data that can be told from others."""

    def fingerprint(self) -> str:
        """Return the sha256 of the data."""


D = TypeVar("D", bound=Fingerprinted)
"""What a family is fitted to."""


class GenerativeModel(ABC, Generic[D]):
    """A family: what it is given by `fit`, it can sample, `save` and `load`.

    Args:
        config: the family's hyper-parameters.
    """

    name: ClassVar[str]
    """The family's name: its file, its key in FAMILIES, its parameters file and its namespace."""
    Config: ClassVar[type[ModelConfig]]
    """Type of the hyper-parameters; its field names are the YAML keys."""
    sampling_options: ClassVar[Mapping[str, str]] = {}
    """What may be another for samples than it was for the fit: names in `sampling`, and the hyper-parameters behind."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.train_sha256 = ""

    @abstractmethod
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
        """Fit to the training data and return the curves; families in closed form use only `train` and `seed`."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return everything learnt, as named arrays."""

    @abstractmethod
    def restore(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Take back what `tensors` returned; all that `facts` told is known already."""

    def begin_from(self, former: "GenerativeModel[Any]") -> None:
        """Let the next `fit` begin from what another model has learnt; a family in closed form begins anew."""

    def remember(self, train: D) -> None:
        """Note what the family knows of its training data by looking at them; every `fit` begins with it."""
        self.train_sha256 = train.fingerprint()

    @classmethod
    def reconfigured(cls, config: ModelConfig, options: Mapping[str, Any]) -> ModelConfig:
        """Return the hyper-parameters with these sampling options in place of their own.

        Raises:
            SimulacraError: for an option that the family does not have, or a value that it cannot have.
        """
        for option in options:
            if option not in cls.sampling_options:
                prompted = cls.name in FAMILIES and FAMILIES[cls.name].prompts
                takes = ", ".join((*ASKED_OF_ALL, *(["prompt"] if prompted else []), *cls.sampling_options))
                raise SimulacraError(f"{cls.name} has no sampling.{option}; it takes {takes}")
        changed = {cls.sampling_options[option]: value for option, value in options.items()}
        try:
            return cls.Config.model_validate(config.model_dump() | changed)
        except ValidationError as error:
            wrong = error.errors()[0]
            option = next((option for option, field in cls.sampling_options.items() if field in wrong["loc"]), "")
            where = f"sampling.{option} is {options[option]!r}: " if option in options else ""
            raise SimulacraError(f"{cls.name}: {where}{wrong['msg'].removeprefix('Value error, ')}") from error

    def asked(self, options: Mapping[str, Any]) -> Self:
        """Return the same fitted model, its weights shared, that samples by other options.

        Raises:
            SimulacraError: as `reconfigured` does.
        """
        twin = copy(self)
        twin.config = self.reconfigured(self.config, options)
        return twin

    def n_parameters(self) -> int:
        """Count the learnt numbers."""
        return sum(array.size for array in self.tensors().values())

    def fingerprint(self) -> str:
        """Return the sha256 of everything learnt, hexadecimal."""
        digest = hashlib.sha256()
        for key, array in sorted(self.tensors().items()):
            digest.update(f"{key} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        """Return what must be known of the model beside its tensors, fit for JSON."""
        return {"family": self.name, "config": self.config.model_dump(mode="json"), "train_sha256": self.train_sha256}

    def recall(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts` returned; the configuration is there already."""
        self.train_sha256 = facts["train_sha256"]

    def save(self, folder: Path) -> None:
        """Write `model.json` and `tensors.safetensors` into an existing folder."""
        from safetensors.numpy import save_file

        (folder / "model.json").write_text(json.dumps(self.facts(), indent=2))
        save_file(
            {key: np.ascontiguousarray(value) for key, value in self.tensors().items()}, folder / "tensors.safetensors"
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        facts = json.loads((folder / "model.json").read_text())
        model = cls(cls.Config.model_validate(facts["config"]))
        model.recall(facts)
        model.restore(load_file(folder / "tensors.safetensors"))
        return model


class ImageModel(GenerativeModel[ImageSet]):
    """A family of images, which it can sample, by class where it is conditional.

    Families with a likelihood are `DensityModel`s: an exact one defines `log_prob(images)`, one with a bound
    `elbo(images)`; either returns nats per image of 8-bit pixels. A bound is never called log_prob.

    Args:
        config: the family's hyper-parameters.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self.class_names: tuple[str, ...] = ()
        self.class_frequencies: NDArray[np.float64] = np.ones(0)

    @abstractmethod
    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw n images; the same seed gives the same bytes. Labelled when the family is class-conditional."""

    @property
    def conditional(self) -> bool:
        """Whether samples can be asked for by class: the configuration says so and the data carried labels."""
        return bool(getattr(self.config, "conditional", False)) and bool(self.class_names)

    @property
    def likelihood(self) -> Likelihood | None:
        """Say what the family's nats are of; None where it has no likelihood."""
        return None

    @property
    def captions(self) -> Captions | None:
        """All captions that prompts may ask for; None for a model that takes no prompts."""
        return None

    def remember(self, train: ImageSet) -> None:
        """Note the training data's hash, shape, classes and class frequencies; every `fit` begins with it."""
        super().remember(train)
        self.shape, self.class_names = train.shape, train.class_names
        counts = np.ones(0) if train.labels is None else np.bincount(train.labels, minlength=train.n_classes)
        self.class_frequencies = counts / max(1, counts.sum())

    def facts(self) -> dict[str, Any]:
        """Return hyper-parameters, shape and classes."""
        return super().facts() | {
            "shape": self.shape,
            "class_names": self.class_names,
            "class_frequencies": self.class_frequencies.tolist(),
        }

    def recall(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts` returned."""
        super().recall(facts)
        self.shape, self.class_names = tuple(facts["shape"]), tuple(facts["class_names"])
        self.class_frequencies = np.array(facts["class_frequencies"])

    def choose_classes(self, n: int, condition: Condition, rng: np.random.Generator) -> NDArray[np.int64]:
        """Turn a condition into one class index a sample.

        Raises:
            SimulacraError: for a class that the model does not know, or a condition that it cannot honour.
        """
        if prompts_in(condition):
            raise SimulacraError(f"{self.name} takes no prompts; ask for a class by its name, or for none")
        if not self.conditional:
            if condition is not None:
                raise SimulacraError(f"{self.name} was fitted without classes and cannot sample {condition!r}")
            return np.zeros(n, np.int64)
        if condition is None:
            return rng.choice(len(self.class_names), size=n, p=self.class_frequencies)
        if isinstance(condition, str):
            condition = self._class_index(condition)
        classes = np.array(np.broadcast_to(np.asarray(condition, np.int64), (n,)))
        if n and not 0 <= classes.min() <= classes.max() < len(self.class_names):
            raise SimulacraError(f"classes must lie between 0 and {len(self.class_names) - 1}, got {condition!r}")
        return classes

    def find_classes(self, asked: str | int | Sequence[str | int]) -> NDArray[np.int64]:
        """Return the indices of classes that are told by name or index; a text may hold several, blanks between them.

        Raises:
            SimulacraError: for a class that the model does not know, and where there is none.
        """
        if not self.conditional:
            raise SimulacraError(f"{self.name} was fitted without classes and cannot sample {asked!r}")
        told = self._names_in(asked) if isinstance(asked, str) else [asked] if isinstance(asked, int) else asked
        if not told:
            raise SimulacraError(f"no class was asked for; {self.name} knows {', '.join(self.class_names)}")
        return np.array([self._class_index(str(each)) for each in told], np.int64)

    def _names_in(self, text: str) -> list[str]:
        """Split a text into class names, which may hold blanks themselves: the longest that fits comes first."""
        words, found = text.split(), []
        while words:
            lengths = range(len(words), 0, -1)
            taken = next((n for n in lengths if " ".join(words[:n]) in self.class_names), 1)
            found.append(" ".join(words[:taken]))
            words = words[taken:]
        return found

    def _class_index(self, name: str) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        if name.isdecimal() and int(name) < len(self.class_names):
            return int(name)
        raise SimulacraError(f"unknown class {name!r}; {self.name} knows {', '.join(self.class_names)}")

    def labelled(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> ImageSet:
        """Wrap samples, with their classes where the family is conditional."""
        return ImageSet(images, classes, self.class_names) if self.conditional else ImageSet(images)


def prompts_in(condition: Condition) -> list[Prompt]:
    """Return the prompts of a condition: none where it is something else."""
    if isinstance(condition, Prompt):
        return [condition]
    several = condition if isinstance(condition, list | tuple) else ()
    return [each for each in several if isinstance(each, Prompt)]

"""Deterministic autoencoder with a density fitted to its codes afterwards: Ghosh et al. (2020), arXiv:1903.12436."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional as F

from simulacra.data.image_set import ImageSet
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.mixture import Mixture, fit_mixture
from simulacra.models.neural import NeuralImageModel
from simulacra.nn.convolution import Decoder, Encoder
from simulacra.nn.flows import VectorFlow, initialise
from simulacra.training import checkpoint, distributed, loop
from simulacra.training.batches import Batch, to_float, to_uint8
from simulacra.training.config import TrainingConfig
from simulacra.training.history import Callback, History
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable

CHUNK = 500
PRIOR_FOLDER = "prior"
"""Where, inside the folder of checkpoints, the training of a flow over the codes keeps its own."""

Arrays = dict[str, NDArray[Any]]


class AutoencoderConfig(ModelConfig):
    """Hyper-parameters of the autoencoder and of the density of its codes."""

    latent_dim: int = Field(16, ge=1, description="coordinates of a code")
    width: int = Field(32, ge=4, description="channels of the finest level; doubles a level")
    levels: int = Field(2, ge=1, le=5, description="halvings of the image")
    loss: Literal["mse", "l1"] = Field("mse", description="squared or absolute error of a pixel in [-1, 1]")
    noise: float = Field(0.0, ge=0, description="deviation of the noise added to what is encoded; 0 does not denoise")
    code_penalty: float = Field(0.0, ge=0, description="weight of the codes' mean square in the loss")
    prior: Literal["gmm", "flow", "normal"] = Field("gmm", description="density of the codes; normal is N(0, I)")
    standardise: bool = Field(True, description="give codes mean 0 and variance 1 before the density")
    components: tuple[PositiveInt, ...] = Field(
        (1, 2, 4, 8), min_length=1, description="numbers of components to choose from by BIC; for gmm"
    )
    reg_covar: float = Field(1e-3, gt=0, description="added to every variance; for gmm")
    couplings: int = Field(6, ge=2, description="coupling layers; for flow")
    flow_width: int = Field(64, ge=2, description="size of the couplings' hidden layers; for flow")
    prior_steps: int = Field(1000, ge=1, description="optimiser steps after the autoencoder's own; for flow")
    conditional: bool = Field(True, description="a density of codes a class where the data carry classes; not normal")

    @model_validator(mode="after")
    def _flow_has_two_halves(self) -> Self:
        if self.prior == "flow" and self.latent_dim == 1:
            raise ValueError("prior: flow needs latent_dim 2 or more, since its couplings change one half by the other")
        return self


class AutoencoderNetwork(Trainable):
    """Encoder, decoder and the error of going through both.

    Example:
        >>> network = AutoencoderNetwork(AutoencoderConfig(width=4), (1, 8, 8))
        >>> network.decode(network.encode(torch.zeros(2, 1, 8, 8))).shape
        torch.Size([2, 1, 8, 8])
    """

    bf16_pays_on_cpu = True
    channels_last_pays = True
    shift: Tensor
    scale: Tensor

    def __init__(self, config: AutoencoderConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config = config
        size = {"width": config.width, "levels": config.levels}
        self.encoder = Encoder(shape, **size, out_features=config.latent_dim)
        self.decoder = Decoder(shape, **size, in_features=config.latent_dim)
        # Known once the training is over; until then codes are what the encoder returns.
        self.register_buffer("shift", torch.zeros(config.latent_dim))
        self.register_buffer("scale", torch.ones(config.latent_dim))

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (n, latent_dim) of images in [-1, 1]."""
        return (self.encoder(x).float() - self.shift) / self.scale  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """Return images around [-1, 1] for codes (n, latent_dim)."""
        return self.decoder(z * self.scale + self.shift).float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def standardise(self, codes: Tensor) -> None:
        """Have these codes come out with mean 0 and variance 1 from now on."""
        self.shift.copy_(codes.mean(0))
        self.scale.copy_(codes.std(0, correction=0).clamp(min=1e-6))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the error per pixel, with the codes' penalty, and its parts; noise is added while training only."""
        x = batch.x
        if self.training and self.config.noise:
            x = x + self.config.noise * batch.noise.normal(*x.shape)
        codes = self.encode(x)
        decoded = self.decode(codes)
        error = F.mse_loss(decoded, batch.x) if self.config.loss == "mse" else F.l1_loss(decoded, batch.x)
        size = codes.square().mean()
        return {"loss": error + self.config.code_penalty * size, "reconstruction": error, "code_size": size}


class MixturePrior:
    """A Gaussian mixture of codes a class, or one for all.

    Args:
        mixtures: by class index; 0 where there are no classes.

    Example:
        >>> prior = MixturePrior({0: Mixture(np.ones(1), np.zeros((1, 3)), np.eye(3)[None])})
        >>> prior.draw(np.zeros(5, np.int64), np.random.default_rng(0)).shape
        (5, 3)
    """

    def __init__(self, mixtures: Mapping[int, Mixture]) -> None:
        self.mixtures = mixtures

    def draw(self, classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a code of each class given, (n, latent_dim)."""
        dim = next(iter(self.mixtures.values())).means.shape[1]
        z = np.empty((len(classes), dim), np.float32)
        for label in np.unique(classes):
            rows = np.flatnonzero(classes == label)
            z[rows] = self.mixtures[int(label)].sample(len(rows), rng)
        return z

    def tensors(self) -> Arrays:
        """Return the mixtures' parameters, `<class>.<name>`."""
        return {
            f"{label}.{name}": array
            for label, mixture in self.mixtures.items()
            for name, array in mixture.tensors().items()
        }

    def restore(self, tensors: Arrays) -> None:
        """Take back what `tensors` returned."""
        by_class: dict[int, Arrays] = {}
        for key, array in tensors.items():
            label, name = key.split(".")
            by_class.setdefault(int(label), {})[name] = array
        self.mixtures = {label: Mixture.from_tensors(arrays) for label, arrays in by_class.items()}

    def n_parameters(self) -> int:
        """Count the free numbers."""
        return sum(mixture.n_parameters() for mixture in self.mixtures.values())


class FlowPrior(Trainable):
    """A flow on codes; the shared loop trains it by likelihood on what a frozen encoder makes of the images.

    Args:
        config: size of the flow.
        n_classes: classes that the density depends on; 0 for none.
        encoder: gives the codes to train on.
    """

    def __init__(self, config: AutoencoderConfig, n_classes: int, encoder: AutoencoderNetwork) -> None:
        super().__init__()
        self.config, self.n_classes = config, n_classes
        # In a tuple, since the encoder is no part of this network: neither trained, nor averaged, nor kept with it.
        self.frozen = (encoder,)
        self.flow = VectorFlow(
            config.latent_dim, couplings=config.couplings, width=config.flow_width, context=n_classes
        )

    def begin_with(self, codes: Tensor, y: Tensor | None) -> None:
        """Let the flow's first layer standardise these codes."""
        initialise(self.flow, codes, self._context(y))

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def _context(self, y: Tensor | None) -> Tensor | None:
        return F.one_hot(y, self.n_classes).float() if self.n_classes and y is not None else None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return −log p(code) in nats a coordinate."""
        with torch.no_grad():
            z = self.frozen[0].to(batch.x.device).encode(batch.x)
        return {"loss": -self.flow.log_prob(z, self._context(batch.y)).mean() / self.config.latent_dim}

    @torch.inference_mode()
    def draw(self, classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a code of each class given, (n, latent_dim)."""
        noise = Noise(int(rng.integers(2**32)))
        return self.flow.sample(len(classes), self._context(torch.from_numpy(classes)), normal=noise.normal).numpy()

    def tensors(self) -> Arrays:
        """Return the flow's weights."""
        return {key: value.numpy() for key, value in self.state_dict().items()}

    def restore(self, tensors: Arrays) -> None:
        """Take back what `tensors` returned."""
        self.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in tensors.items()})
        self.eval()

    def n_parameters(self) -> int:
        """Count the weights."""
        return sum(parameter.numel() for parameter in self.parameters())


class Autoencoder(NeuralImageModel):
    """Convolutional autoencoder; what it samples is decoded from a density fitted to the codes of the training images.

    Encoder and decoder know nothing of classes; a conditional model has a density of codes a class.

    References:
        Ghosh et al. (2020), arXiv:1903.12436, for the density fitted afterwards and the codes' penalty; Vincent et al.
        (2008) for noise.

    Args:
        config: an AutoencoderConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> model = Autoencoder(AutoencoderConfig(width=4, latent_dim=2))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> model.sample(3, condition=1, seed=0).labels
        array([1, 1, 1])
    """

    name = "autoencoder"
    samples_while_training = False  # the density of the codes comes after
    Config = AutoencoderConfig
    config: AutoencoderConfig
    network: AutoencoderNetwork
    prior: MixturePrior | FlowPrior

    @property
    def conditional(self) -> bool:
        """Whether samples can be asked for by class; N(0, I) is the same for all."""
        return super().conditional and self.config.prior != "normal"

    def build(self) -> AutoencoderNetwork:
        """Return an untrained network."""
        return AutoencoderNetwork(self.config, self.shape)

    def build_prior(self) -> MixturePrior | FlowPrior:
        """Return a density of codes that is yet to be fitted; N(0, I) needs no fitting."""
        if self.config.prior == "flow":
            return FlowPrior(self.config, len(self.class_names) if self.conditional else 0, self.network)
        dim = self.config.latent_dim
        return MixturePrior({0: Mixture(np.ones(1), np.zeros((1, dim)), np.eye(dim)[None])})

    def learn(self, train: ImageSet, training: TrainingConfig, **options: Any) -> History:
        """Train the network, then fit the density to its codes."""
        history = super().learn(train, training, **options)
        # One process computes them for all, so that no two differ in a last digit.
        codes = torch.from_numpy(distributed.from_leader(lambda: self.encode(train)))
        if self.config.standardise:
            self.network.standardise(codes)
            codes = (codes - self.network.shift) / self.network.scale
        with seeded(options["seed"]):
            self.prior = self.build_prior()
        if isinstance(self.prior, FlowPrior):
            history = self._with_flow(self.prior, history, codes, train, training, **options)
        elif self.config.prior == "gmm":
            self.prior = distributed.from_leader(lambda: self._mixtures(codes, train.labels, options["seed"]))
            sizes = {label: len(mixture.weights) for label, mixture in self.prior.mixtures.items()}
            history.facts["prior_components"] = [sizes[label] for label in sorted(sizes)]
        return history

    def _mixtures(self, codes: Tensor, labels: NDArray[np.int64] | None, seed: int) -> MixturePrior:
        z = codes.double().numpy()
        classes = labels if self.conditional and labels is not None else np.zeros(len(z), np.int64)
        options: dict[str, Any] = {"components": self.config.components, "reg_covar": self.config.reg_covar}
        labels = np.unique(classes)
        return MixturePrior({int(c): fit_mixture(z[classes == c], seed=seed, **options)[0] for c in labels})

    def _with_flow(
        self,
        prior: FlowPrior,
        history: History,
        codes: Tensor,
        train: ImageSet,
        training: TrainingConfig,
        *,
        checkpoints: Path | None = None,
        callbacks: Sequence[Callback] = (),
        **options: Any,
    ) -> History:
        """Train the flow in a loop of its own; its curves follow the network's, as `prior_loss` and the like."""

        def later(hear: Callback) -> Callback:
            began = history.facts["steps"]
            return lambda step, split, values: hear(
                began + step, split, {f"prior_{name}": value for name, value in values.items()}
            )

        prior.begin_with(codes, None if train.labels is None else torch.from_numpy(train.labels))
        folder = checkpoints and checkpoints / PRIOR_FOLDER
        budget = training.model_copy(update={"steps": self.config.prior_steps, "precision": "fp32"})
        options |= {"checkpoints": folder, "callbacks": [later(callback) for callback in callbacks]}
        found = loop.train(prior, train, budget, title=f"{self.name} prior", **options)
        self.network.cpu()
        # Only the network's checkpoints stay until the model is saved: the flow is quick to train again.
        if folder:
            distributed.from_leader(lambda: checkpoint.clear(folder))
        found.replay(later(history.add))
        history.facts |= {
            "seconds": history.facts["seconds"] + found.facts["seconds"],
            "prior_steps": found.facts["steps"],
        }
        return history

    @torch.inference_mode()
    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw codes from their density and return the decoded images."""
        rng = np.random.default_rng(seed)
        classes = self.choose_classes(n, condition, rng)
        return self.labelled(self._decoded(self.prior.draw(classes, rng)), classes)

    @torch.inference_mode()
    def encode(self, data: ImageSet) -> NDArray[np.float32]:
        """Return the codes (n, latent_dim); standardised, they have mean 0 and variance 1 over the training images."""
        parts = torch.split(torch.from_numpy(data.images), CHUNK)
        return torch.cat([self.network.encode(to_float(part)) for part in parts]).numpy()

    @torch.inference_mode()
    def decode(self, z: NDArray[np.float32], *, condition: Condition = None) -> ImageSet:
        """Return the images of codes (n, latent_dim); the condition labels them and changes nothing else."""
        return self.labelled(self._decoded(z), self.choose_classes(len(z), condition, np.random.default_rng(0)))

    def _decoded(self, z: NDArray[np.float32]) -> NDArray[np.uint8]:
        images = np.empty((len(z), *self.shape), np.uint8)
        for start in range(0, len(z), CHUNK):
            rows = slice(start, start + CHUNK)
            images[rows] = to_uint8(self.network.decode(torch.from_numpy(z[rows]))).numpy()
        return images

    def n_parameters(self) -> int:
        """Count the trainable numbers of the network, and the fitted ones of the density."""
        return super().n_parameters() + (0 if self.config.prior == "normal" else self.prior.n_parameters())

    def tensors(self) -> Arrays:
        """Return the network's state and the density's numbers."""
        network = {f"network.{key}": value for key, value in super().tensors().items()}
        return network | {f"prior.{key}": value for key, value in self.prior.tensors().items()}

    def restore(self, tensors: Arrays) -> None:
        """Rebuild network and density."""
        parts: dict[str, Arrays] = {"network": {}, "prior": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        super().restore(parts["network"])
        self.prior = self.build_prior()
        self.prior.restore(parts["prior"])

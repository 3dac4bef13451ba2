"""Normalizing flows on images: RealNVP (Dinh et al. 2017), arXiv:1605.08803, and Glow (Kingma & Dhariwal 2018).

Glow is arXiv:1807.03039; variational dequantisation is of Flow++ (Ho et al. 2019), arXiv:1902.00275.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.models.neural import NeuralImageModel
from simulacra.nn.coupling import Bijection, CheckerboardCouplings, ConvNet, Couplings, Mlp, NetMaker
from simulacra.nn.flows import (
    ActNorm,
    Chain,
    ConditionalAffine,
    Flat,
    InvertibleConv,
    Levels,
    MultiScale,
    Regroup,
    Squeeze,
    initialise,
    standard_normal_log_prob,
)
from simulacra.training.batches import Batch, to_float
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History
from simulacra.training.noise import Noise
from simulacra.training.trainable import Trainable

CHUNK = 250
FIRST = 256
"""Images that set the actnorm layers before the first step."""


class FlowConfig(ModelConfig):
    """Hyper-parameters of the flow."""

    architecture: Literal["realnvp", "glow"] = Field("glow", description="which layers stand between the couplings")
    levels: int = Field(2, ge=1, le=6, description="halvings of the image at most; odd sides are not halved")
    couplings: int = Field(8, ge=2, description="couplings a level; RealNVP: half by checkerboard, half by channel")
    width: int = Field(64, ge=1, description="hidden channels of a coupling's network")
    dense_couplings: int = Field(8, ge=0, description="couplings by dense networks after the coarsest level's others")
    dense_width: int = Field(256, ge=1, description="hidden units of those networks")
    log_scale_bound: float = Field(3.0, gt=0, description="largest |log scale| of one coupling")
    logit_alpha: float = Field(0.0, ge=0, lt=0.5, description="α of the logit that pixels go through; 0 scales only")
    dequantisation: Literal["uniform", "variational"] = Field("uniform", description="how levels become real numbers")
    dequantisation_couplings: int = Field(4, ge=2, description="couplings of q(u | x), where it is variational")
    conditional: bool = Field(True, description="model p(x | y) where the data carry classes")
    temperature: float = Field(0.7, ge=0, description="standard deviation of the latent numbers that are sampled")


def glow_level(channels: int, n: int, make_net: NetMaker, bound: float) -> list[Bijection]:
    """Return n steps of actnorm, 1×1 convolution and coupling; one channel goes by fields."""
    if channels == 1:
        return [ActNorm(1), CheckerboardCouplings(1, make_net, n=n, bound=bound)]
    layers: list[Bijection] = []
    for _ in range(n):
        coupling = Couplings(halves(channels), make_net, n=1, bound=bound)
        layers += [ActNorm(channels), InvertibleConv(channels), coupling]
    return layers


def realnvp_level(channels: int, n: int, make_net: NetMaker, bound: float, *, squeezed: bool) -> list[Bijection]:
    """Return n couplings, a run of them by checkerboard and a run by channel.

    An actnorm stands before each run in place of the paper's batch normalisation, under which the likelihood of an
    image would depend on the rest of its batch.
    """
    by_channel = n // 2 if channels > 1 else 0
    run = partial(Couplings, halves(channels), make_net, bound=bound)
    if squeezed:
        fields: list[Bijection] = [run(n=n - by_channel), Regroup()]
    else:
        fields = [CheckerboardCouplings(channels, make_net, n=n - by_channel, bound=bound)]
    channel_run = [ActNorm(channels), run(n=by_channel)] if by_channel else []
    return [ActNorm(channels), *fields, *channel_run]


def dense_run(config: FlowConfig, features: int, n_classes: int) -> Bijection:
    """Return a run of couplings by dense networks: what is far apart in the image meets here."""
    make_net = partial(Mlp, width=config.dense_width, context=n_classes)
    return Flat(Couplings(halves(features), make_net, n=config.dense_couplings, bound=config.log_scale_bound))


def halves(channels: int) -> tuple[int, int]:
    """Return the sizes of two halves, the first one larger where they cannot be equal."""
    return channels - channels // 2, channels // 2


def image_flow(config: FlowConfig, shape: tuple[int, int, int], n_classes: int) -> Chain:
    """Return the bijection between grey levels (n, c, h, w) from 0 to 256 and standard normal vectors (n, c · h · w).

    Each level but the last ends with one more coupling, which is the prior p(done | goes on) of the half that is done
    there: the latent numbers are standard normal wherever they leave.
    """
    make_net = partial(ConvNet, width=config.width, context=n_classes)
    channels, height, width = shape
    levels: list[list[Bijection]] = []
    shapes = []
    for _ in range(config.levels):
        squeezed = height % 2 == 0 and width % 2 == 0
        if levels and not squeezed:
            break
        if levels:
            levels[-1].append(Couplings(halves(channels), make_net, n=1, bound=config.log_scale_bound))
            channels //= 2
        if squeezed:
            channels, height, width = 4 * channels, height // 2, width // 2
        make = glow_level if config.architecture == "glow" else partial(realnvp_level, squeezed=squeezed)
        layers = make(channels, config.couplings, make_net, config.log_scale_bound)
        levels.append([Squeeze(), *layers] if squeezed else layers)
        shapes.append((channels, height, width))
    if config.dense_couplings and channels * height * width > 1:
        levels[-1].append(dense_run(config, channels * height * width, n_classes))
    scales = MultiScale([Chain(*layers) for layers in levels], shapes)
    prior = [ConditionalAffine(math.prod(shape), n_classes)] if n_classes else []
    return Chain(Levels(config.logit_alpha), scales, *prior)


class Dequantiser(nn.Module):
    """Variational dequantisation: a flow q(u | x) in place of the uniform distribution over each level.

    References:
        Ho et al. (2019), arXiv:1902.00275, section 3.1.

    Args:
        config: couplings, width and bound.
        shape: of an image.
    """

    def __init__(self, config: FlowConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.squeeze = Squeeze() if height % 2 == 0 and width % 2 == 0 else None
        channels *= 4 if self.squeeze else 1
        self.features = nn.Sequential(
            nn.Conv2d(channels, config.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.width, config.width, 3, padding=1),
        )
        make_net = partial(ConvNet, width=config.width, context=config.width)
        layers = realnvp_level(
            channels, config.dequantisation_couplings, make_net, config.log_scale_bound, squeezed=bool(self.squeeze)
        )
        self.flow = Chain(*layers)

    def forward(self, x: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Return u in (0, 1), shaped as x, and log q(u | x) in nats, (n,).

        Args:
            x: images in [-1, 1].
            normal: standard normal numbers, same shape.
        """
        log_q = standard_normal_log_prob(normal)
        if self.squeeze:
            x, normal = self.squeeze(x)[0], self.squeeze(normal)[0]
        z, log_det = self.flow(normal, self.features(x))
        log_slope = F.logsigmoid(z) + F.logsigmoid(-z)
        u = torch.sigmoid(z)
        return self.squeeze.inverse(u) if self.squeeze else u, log_q - log_det - log_slope.flatten(1).sum(1)


class FlowNetwork(Trainable):
    """The bijection between pixels and standard normal numbers, the dequantiser, and the negative log-likelihood.

    Example:
        >>> network = FlowNetwork(FlowConfig(width=4, couplings=2), (1, 8, 8), n_classes=0)
        >>> network.pixels(torch.zeros(2, 64), None).shape
        torch.Size([2, 1, 8, 8])
    """

    bf16_pays_on_cpu = True
    channels_last_pays = True

    def __init__(self, config: FlowConfig, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        self.config, self.n_classes = config, n_classes
        self.flow = image_flow(config, shape, n_classes)
        self.dequantiser = Dequantiser(config, shape) if config.dequantisation == "variational" else None

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def context(self, y: Tensor | None) -> Tensor | None:
        """Return classes as one-hot pixels (n, classes, 1, 1), or None where the model has none."""
        if not self.n_classes or y is None:
            return None
        return F.one_hot(y, self.n_classes).to(next(self.parameters()).dtype)[:, :, None, None]

    def dequantise(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return grey levels x + u as real numbers from 0 to 256, and log q(u | x), (n,), for x in [-1, 1]."""
        grey = ((x + 1) * 127.5).round()
        if self.dequantiser:
            u, log_q = self.dequantiser(x, noise.normal(*x.shape))
            return grey + u, log_q
        return grey + noise.uniform(*x.shape).to(x.dtype), x.new_zeros(len(x))

    def log_density(self, grey: Tensor, y: Tensor | None) -> Tensor:
        """Return log p(x + u | y) in nats per image, as a density per grey level, (n,)."""
        z, log_det = self.flow(grey, self.context(y))
        return standard_normal_log_prob(z) + log_det  # type: ignore[no-any-return]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the negative log-likelihood per pixel, in nats and in bits."""
        grey, log_q = self.dequantise(batch.x, batch.noise)
        nats = (log_q - self.log_density(grey, batch.y)).mean() / batch.x[0].numel()
        return {"loss": nats, "bits_per_dim": nats / math.log(2)}

    def latents(self, grey: Tensor, y: Tensor | None) -> Tensor:
        """Return standard normal numbers (n, c · h · w) of grey levels (n, c, h, w)."""
        return self.flow(grey, self.context(y))[0]  # type: ignore[no-any-return]

    def pixels(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Return the uint8 images (n, c, h, w) of latent numbers (n, c · h · w)."""
        return self.flow.inverse(z, self.context(y)).floor().clamp(0, 255).to(torch.uint8)


class NormalizingFlow(NeuralImageModel, DensityModel):
    """RealNVP or Glow, class-conditional by its coupling networks and its prior.

    References:
        Dinh et al. (2017), arXiv:1605.08803; Kingma & Dhariwal (2018), arXiv:1807.03039; Ho et al. (2019),
        arXiv:1902.00275, for variational dequantisation.

    Args:
        config: a FlowConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> model = NormalizingFlow(FlowConfig(width=4, couplings=2))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> model.encode(data).shape, model.sample(3, seed=0).images.shape
        ((40, 64), (3, 1, 8, 8))
    """

    name = "flow"
    Config = FlowConfig
    config: FlowConfig
    sampling_options: ClassVar[Mapping[str, str]] = {"temperature": "temperature"}
    network: FlowNetwork

    chunk = CHUNK

    @property
    def likelihood(self) -> Likelihood:
        """Say what the nats are of."""
        return Likelihood(bound=False, dequantisation=self.config.dequantisation, classes_summed_out=self.conditional)

    def build(self) -> FlowNetwork:
        """Return an untrained network."""
        return FlowNetwork(self.config, self.shape, len(self.class_names) if self.conditional else 0)

    def learn(self, train: ImageSet, training: TrainingConfig, **options: Any) -> History:
        """Set the actnorm layers by the first images, in every process alike, then train."""
        first = train.take(np.linspace(0, len(train) - 1, min(len(train), FIRST)).astype(np.int64))
        y = torch.from_numpy(first.labels) if first.labels is not None else None
        grey, _ = self.network.dequantise(to_float(torch.from_numpy(first.images)), Noise(options["seed"]))
        initialise(self.network.flow, grey, self.network.context(y))
        return super().learn(train, training, **options)

    def _grey(self, data: ImageSet) -> tuple[Tensor, Tensor | None]:
        """Return grey levels in the middle of their bins, and the classes.

        Raises:
            SimulacraError: where a class-conditional model gets images without classes.
        """
        if self.conditional and data.labels is None:
            raise SimulacraError(f"{self.name} was fitted by class and needs the images' labels to encode them")
        y = torch.from_numpy(data.labels) if self.conditional else None
        return torch.from_numpy(data.images).float() + 0.5, y

    @torch.inference_mode()
    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw normal numbers of the temperature's standard deviation and return their images."""
        classes = self.choose_classes(n, condition, np.random.default_rng(seed))
        noise, images = Noise(seed), np.empty((n, *self.shape), np.uint8)
        for start in range(0, n, CHUNK):
            y = torch.from_numpy(classes[start : start + CHUNK])
            z = self.config.temperature * noise.normal(len(y), math.prod(self.shape))
            images[start : start + CHUNK] = self.network.pixels(z, y).numpy()
        return self.labelled(images, classes)

    def log_prob(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> NDArray[np.float64]:
        """Return log p(x + u), less log q(u | x), in nats per image, (n,); classes are summed out."""
        return self.marginal(images, seed=seed, importance_samples=importance_samples)

    @torch.inference_mode()
    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> NDArray[np.float64]:
        """Return the log-likelihood of each class at one draw of the dequantisation, (n, classes)."""
        grey, log_q = self.network.dequantise(to_float(torch.from_numpy(images)), noise)
        classes: list[int | None] = list(range(len(self.class_names))) if self.conditional else [None]
        labels = [None if label is None else torch.full((len(grey),), label) for label in classes]
        nats = [self.network.log_density(grey, y) - log_q for y in labels]
        return torch.stack(nats, dim=1).double().numpy()

    @torch.inference_mode()
    def encode(self, data: ImageSet) -> NDArray[np.float32]:
        """Return the latent numbers (n, c · h · w), standard normal under the model; a conditional one needs labels."""
        chunks = (data.take(range(start, min(start + CHUNK, len(data)))) for start in range(0, len(data), CHUNK))
        return np.concatenate([self.network.latents(*self._grey(chunk)).numpy() for chunk in chunks])

    @torch.inference_mode()
    def decode(self, z: NDArray[np.float32], *, condition: Condition = None) -> ImageSet:
        """Return the images of latent numbers (n, c · h · w)."""
        classes = self.choose_classes(len(z), condition, np.random.default_rng(0))
        images = self.network.pixels(torch.from_numpy(z), torch.from_numpy(classes))
        return self.labelled(images.numpy(), classes)

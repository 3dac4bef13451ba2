"""Gated PixelCNN: van den Oord et al. (2016), arXiv:1606.05328; its logistic mixture: Salimans et al. (2017)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.data.image_set import ImageSet
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.models.neural import NeuralImageModel
from simulacra.nn.distributions import logistic_mixture_log_prob
from simulacra.nn.masked import GatedStack, PixelByPixel, Pointwise, keep_variance
from simulacra.training.batches import Batch, to_float, to_uint8
from simulacra.training.noise import Noise
from simulacra.training.progress import Progress, sampling
from simulacra.training.trainable import Trainable

CHUNK = 200
"""Images that are drawn at once."""

LOG_SCALE_FLOOR = -7.0
"""Smallest log scale of a component: below a tenth of a grey level a logistic is a point mass."""


class PixelCNNConfig(ModelConfig):
    """Hyper-parameters of the PixelCNN."""

    head: Literal["softmax", "logistic_mixture"] = Field(
        "softmax", description="256 probabilities a value, or a mixture of discretised logistics a pixel"
    )
    components: int = Field(10, ge=1, description="logistics in the mixture; the softmax has none")
    width: int = Field(32, ge=1, description="channels of either stack")
    n_layers: int = Field(6, ge=1, description="gated layers")
    kernel: Literal[3, 5, 7] = Field(3, description="rows and columns of a gated layer's convolutions before the mask")
    first_kernel: Literal[3, 5, 7] = Field(7, description="the same of the first convolution")
    dilations: tuple[PositiveInt, ...] = Field(
        (1,), min_length=1, description="pixels between the taps of the layers' convolutions, taken in turn"
    )
    templates: int = Field(8, ge=1, description="planes that a class has of its own, to say where its strokes lie")
    head_width: int = Field(64, ge=1, description="channels of the hidden layer between stacks and probabilities")
    conditional: bool = Field(True, description="model p(x | y) where the data carry classes")
    temperature: float = Field(1.0, gt=0, description="of sampling: 1 draws from the model, less keeps to its modes")

    @model_validator(mode="after")
    def _every_earlier_pixel_is_seen(self) -> Self:
        reach = self.first_kernel // 2
        for dilation in islice(cycle(self.dilations), self.n_layers):
            if dilation > reach:
                raise ValueError(
                    f"a dilation of {dilation} is more than the {reach} pixels that the layers before it reach, and "
                    "would leave pixels unseen; let dilations grow more slowly or raise first_kernel"
                )
            reach += dilation * (self.kernel // 2)
        return self


class Head(nn.Module, ABC):
    """P(pixel | features), whose channels depend on one another in their order."""

    draws: int
    """Uniform numbers that one pixel's draw takes."""

    @abstractmethod
    def log_prob(self, x: Tensor, features: Tensor) -> Tensor:
        """Return log P in nats of each pixel of x in [-1, 1], (n, channels, h, w), as (n, h, w)."""

    @abstractmethod
    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Return pixels in [-1, 1], (n, channels, h, w), drawn by numbers in [0, 1), (n, draws, h, w)."""


class SoftmaxHead(Head):
    """One probability for every level of every channel; a channel's network sees the channels before it.

    Args:
        channels: of the image.
        features: channels of the features.
        width: hidden channels.
        levels: of a pixel.

    Example:
        >>> head = SoftmaxHead(3, features=8, width=8, levels=4)
        >>> head.log_prob(torch.ones(2, 3, 5, 5), torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 5, 5])
    """

    def __init__(self, channels: int, features: int, width: int, levels: int) -> None:
        super().__init__()
        self.levels, self.draws = levels, channels
        self.channels = nn.ModuleList(
            nn.Sequential(Pointwise(features + before, width), nn.SiLU(), Pointwise(width, levels))
            for before in range(channels)
        )

    def logits(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the logits of the channel after those of x, (n, levels, h, w); x may be without any."""
        before = x.shape[1]
        return self.channels[before](torch.cat([features, x.to(features.dtype)], dim=1)).float()  # type: ignore[no-any-return]

    def log_prob(self, x: Tensor, features: Tensor) -> Tensor:
        """Return log P in nats per pixel, (n, h, w)."""
        level = ((x + 1) * ((self.levels - 1) / 2)).round().long()
        total = torch.zeros((), device=x.device)
        for channel in range(x.shape[1]):
            # Levels last: in channels_last memory that is as they lie, and takes a third of the time.
            logits = self.logits(features, x[:, :channel]).movedim(1, -1)
            losses = F.cross_entropy(logits.flatten(0, 2), level[:, channel].flatten(), reduction="none")
            total = total - losses.view(logits.shape[:3])
        return total

    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Return pixels in [-1, 1], channel by channel by the inverse of the distribution function."""
        x = features[:, :0]
        for channel in range(self.draws):
            level = categorical(self.logits(features, x) / temperature, uniform[:, channel])
            x = torch.cat([x, (level * (2 / (self.levels - 1)) - 1)[:, None]], dim=1)
        return x


class LogisticMixtureHead(Head):
    """A mixture of discretised logistics, each channel's mean linear in the channels before it.

    Args:
        channels: of the image.
        features: channels of the features.
        width: hidden channels.
        components: of the mixture.
        levels: of a pixel.

    Example:
        >>> head = LogisticMixtureHead(3, features=8, width=8, components=5, levels=256)
        >>> head.draw(torch.zeros(2, 8, 1, 1), torch.full((2, 4, 1, 1), 0.5), 1.0).shape
        torch.Size([2, 3, 1, 1])
    """

    def __init__(self, channels: int, features: int, width: int, components: int, levels: int) -> None:
        super().__init__()
        self.components, self.levels, self.draws = components, levels, channels + 1
        self.parts = (1, channels, channels, channels * (channels - 1) // 2)
        outputs = Pointwise(width, components * sum(self.parts))
        self.network = nn.Sequential(Pointwise(features, width), nn.SiLU(), outputs)
        # Components that begin spread over the levels part at once rather than move as one.
        bias = outputs.bias.detach().view(components, -1)  # type: ignore[union-attr]
        bias[:, 1 : 1 + channels] = torch.linspace(-1, 1, components)[:, None]
        bias[:, 1 + channels : 1 + 2 * channels] = -2.0

    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return logits, means, log scales and coefficients, (n, components, parts, h, w) each."""
        outputs = self.network(features).float().unflatten(1, (self.components, -1))
        logits, mean, log_scale, coefficients = outputs.split(self.parts, dim=2)
        return logits, mean, log_scale.clamp(min=LOG_SCALE_FLOOR), torch.tanh(coefficients)

    def log_prob(self, x: Tensor, features: Tensor) -> Tensor:
        """Return log P in nats per pixel, (n, h, w)."""
        logits, mean, log_scale, coefficients = self.parameters_of(features)
        known = x[:, None]
        mean = torch.stack([shifted(mean, coefficients, known[:, :, :c]) for c in range(x.shape[1])], dim=2)
        return logistic_mixture_log_prob(x, logits.squeeze(2), mean, log_scale, half_bin=1 / (self.levels - 1))

    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Return pixels in [-1, 1]: a component, then from its logistics one channel after the other, rounded."""
        logits, mean, log_scale, coefficients = self.parameters_of(features)
        component = categorical(logits.squeeze(2) / temperature, uniform[:, 0])[:, None, None]
        mean, log_scale, coefficients = (
            torch.take_along_dim(part, component, dim=1) for part in (mean, log_scale, coefficients)
        )
        spread = temperature * torch.exp(log_scale) * torch.logit(uniform[:, None, 1:])
        x = mean[:, :, :0]
        for channel in range(self.draws - 1):
            value = shifted(mean, coefficients, x) + spread[:, :, channel]
            level = ((value + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1)
            x = torch.cat([x, (level * (2 / (self.levels - 1)) - 1)[:, :, None]], dim=2)
        return x.squeeze(1)


def shifted(mean: Tensor, coefficients: Tensor, before: Tensor) -> Tensor:
    """Return the mean of the channel after those in `before`, shifted linearly by them (Salimans et al., section 2.2).

    Args:
        mean: of all channels, (n, components, channels, h, w).
        coefficients: of each channel by each before it, in their order, along the third dimension.
        before: the channels that are known, (n, 1, known, h, w).
    """
    channel = before.shape[2]
    first = channel * (channel - 1) // 2
    return mean[:, :, channel] + (coefficients[:, :, first : first + channel] * before).sum(dim=2)


def categorical(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return indices along the second dimension, drawn by the inverse of the distribution function.

    Args:
        logits: (n, outcomes, …).
        uniform: numbers in [0, 1), (n, …).
    """
    cumulated = F.softmax(logits.movedim(1, -1), dim=-1).cumsum(dim=-1)
    # Divided by the last, which rounding may have left below 1.
    return (cumulated[..., :-1] <= uniform[..., None] * cumulated[..., -1:]).sum(dim=-1)


class PixelCNNNetwork(Trainable):
    """Two stacks and a head: P(x) = Π P(pixel | pixels before it), exactly.

    Args:
        config: hyper-parameters.
        shape: channels, height and width.
        n_classes: classes that it is conditioned on; 0 for none.
        levels: of a pixel; fewer than 256 make small images' outcomes enumerable.
    """

    # Measured by benchmarks/pixelcnn.py.
    bf16_pays_on_cpu = True
    channels_last_pays = True
    compile_pays = True

    def __init__(self, config: PixelCNNConfig, shape: tuple[int, int, int], n_classes: int, levels: int = 256) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.stack = GatedStack(
            shape,
            width=config.width,
            n_layers=config.n_layers,
            kernel=config.kernel,
            first_kernel=config.first_kernel,
            dilations=config.dilations,
            n_classes=n_classes,
            templates=config.templates,
            features=config.head_width,
        )
        size = (shape[0], config.head_width, config.head_width)
        self.head: Head = (
            SoftmaxHead(*size, levels)
            if config.head == "softmax"
            else LogisticMixtureHead(*size, config.components, levels)
        )
        self.head.apply(keep_variance)

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def log_prob(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Return log P(x | y) in nats of each pixel, (n, h, w), for x in [-1, 1] on the grid of the levels."""
        return self.head.log_prob(x, self.stack(x, y))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the negative log-likelihood in nats and in bits, per pixel and channel."""
        loss = -self.log_prob(batch.x, batch.y).mean() / self.shape[0]
        return {"loss": loss, "bits_per_dim": loss.detach() / np.log(2)}

    def draw(self, y: Tensor, uniform: Tensor, temperature: float, progress: Progress | None = None) -> Tensor:
        """Return images in [-1, 1], (n, channels, h, w), one pixel after the other, each layer doing only what is new.

        Args:
            y: classes, (n,).
            uniform: numbers in [0, 1), (n, head.draws, h, w).
            temperature: of the head.
            progress: counts the pixels.
        """
        walk = PixelByPixel(self.stack, y)
        with one_thread():
            for row in range(self.shape[1]):
                walk.begin_row(row)
                for column in range(self.shape[2]):
                    here = uniform[:, :, row, column, None, None]
                    walk.put(self.head.draw(walk.features()[:, :, None, None], here, temperature).flatten(1))
                    if progress:
                        progress.advance()
        return walk.pixels


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: one pixel's matrices take less time than a second thread takes to answer.

    It also makes samples independent of how many threads there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class PixelCNN(NeuralImageModel, DensityModel):
    """Autoregressive model of the pixels, whose likelihood is exact and of the 256 levels themselves.

    References:
        van den Oord et al. (2016), arXiv:1606.05328; Salimans et al. (2017), arXiv:1701.05517 (PixelCNN++).

    Args:
        config: a PixelCNNConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> from simulacra.training.config import TrainingConfig
        >>> model = PixelCNN(PixelCNNConfig(width=4, n_layers=2, head_width=8))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> model.sample(3, seed=0).images.shape
        (3, 1, 8, 8)
    """

    name = "pixelcnn"
    Config = PixelCNNConfig
    config: PixelCNNConfig
    sampling_options: ClassVar[Mapping[str, str]] = {"temperature": "temperature"}
    network: PixelCNNNetwork

    # So few that a layer's activations fit a processor's cache: twice as quick as hundreds.
    chunk = 50

    @property
    def likelihood(self) -> Likelihood:
        """Say that the likelihood is exact and discrete."""
        return Likelihood(bound=False, classes_summed_out=self.conditional)

    def build(self) -> PixelCNNNetwork:
        """Return an untrained network."""
        return PixelCNNNetwork(self.config, self.shape, len(self.class_names) if self.conditional else 0)

    @torch.inference_mode()
    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw images pixel by pixel; the i-th is the same however many are drawn."""
        classes = self.choose_classes(n, condition, np.random.default_rng(seed))
        images = np.empty((n, *self.shape), np.uint8)
        with sampling(math.ceil(n / CHUNK) * math.prod(self.shape[1:])) as progress:
            for start in range(0, n, CHUNK):
                y = torch.from_numpy(classes[start : start + CHUNK])
                uniform = self._uniform(seed, start, len(y))
                pixels = self.network.draw(y, uniform, self.config.temperature, progress)
                images[start : start + CHUNK] = to_uint8(pixels).numpy()
        return self.labelled(images, classes)

    def _uniform(self, seed: int, first: int, n: int) -> Tensor:
        """Return each image's own numbers."""
        size = (1, self.network.head.draws, *self.shape[1:])
        return torch.cat([Noise(seed, image).uniform(*size) for image in range(first, first + n)])

    def log_prob(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> NDArray[np.float64]:
        """Return log P(x) in nats per image, (n,), a conditional model's classes summed out; it depends on no draw."""
        return self.marginal(images, seed=seed, importance_samples=importance_samples)

    @torch.inference_mode()
    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> NDArray[np.float64]:
        """Return log P(x | y) of each class, (n, classes)."""
        x = to_float(torch.from_numpy(images)).contiguous(memory_format=torch.channels_last)
        classes = range(len(self.class_names) if self.conditional else 1)
        found = [self.network.log_prob(x, torch.full((len(x),), label)) for label in classes]
        return torch.stack([nats.double().sum(dim=(1, 2)) for nats in found], dim=1).numpy()

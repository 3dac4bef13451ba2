"""Variational autoencoder: Kingma & Welling (2014), arXiv:1312.6114; class-conditional as Sohn et al. (2015)."""

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.models.neural import NeuralImageModel
from simulacra.nn.convolution import Decoder, Encoder
from simulacra.nn.distributions import Bernoulli, DiscretisedLogistic, Observation
from simulacra.nn.latents import (
    Gaussian,
    Ladder,
    Latents,
    active,
    codes,
    drawn,
    kl_by_coordinate,
    news,
    precision_weighted,
)
from simulacra.training import distributed
from simulacra.training.batches import Batch, to_float, to_uint8
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History
from simulacra.training.noise import Noise
from simulacra.training.trainable import Trainable

logger = logging.getLogger(__name__)

CHUNK = 500
OBSERVATIONS: dict[str, Observation] = {"discretised_logistic": DiscretisedLogistic(), "bernoulli": Bernoulli()}
LADDER_FEATURES = 128
"""What the encoder hands to the upper layer of two."""


class VAEConfig(ModelConfig):
    """Hyper-parameters of the VAE."""

    latent_dim: int = Field(16, ge=1, description="coordinates of z, or of z1 where hierarchy is 2")
    hierarchy: Literal[1, 2] = Field(1, description="layers of latent variables; 2 makes a ladder VAE")
    top_dim: int = Field(8, ge=1, description="coordinates of z2, the upper layer where hierarchy is 2")
    width: int = Field(32, ge=4, description="channels of the finest level; doubles a level")
    levels: int = Field(2, ge=1, le=5, description="halvings of the image")
    likelihood: Literal["discretised_logistic", "bernoulli"] = Field(
        "discretised_logistic", description="of 256 grey levels, or of pixels binarised at random by their brightness"
    )
    beta: float = Field(1.0, ge=0, description="weight of the KL term; 1 makes the loss the negative ELBO")
    kl_warmup_steps: int = Field(0, ge=0, description="steps over which the KL term's weight grows from 0 to beta")
    free_bits: float = Field(0.0, ge=0, description="nats of KL that cost a latent coordinate nothing, on average")
    train_importance_samples: int = Field(
        1, ge=1, description="draws of the bound trained on; above 1 it is the IWAE's"
    )
    conditional: bool = Field(True, description="model p(x | y) where the data carry classes")
    temperature: float = Field(
        1.0, gt=0, description="factor on the prior's deviation when sampling; below 1: likelier, less varied"
    )
    observation_noise: bool = Field(False, description="sample x from p(x | z) rather than take its mean")

    @model_validator(mode="after")
    def _one_objective(self) -> Self:
        if self.train_importance_samples > 1 and (self.beta != 1 or self.kl_warmup_steps or self.free_bits):
            raise ValueError(
                "train_importance_samples above 1 trains on the IWAE bound, which has no KL term to weigh: "
                "set beta to 1, kl_warmup_steps and free_bits to 0"
            )
        return self

    @property
    def code_dim(self) -> int:
        """Coordinates of all layers together."""
        return self.latent_dim + (self.top_dim if self.hierarchy == 2 else 0)


class VAENetwork(Trainable):
    """Encoder q(z | x, y), prior p(z | y), decoder p(x | z, y) and the negative ELBO.

    Example:
        >>> network = VAENetwork(VAEConfig(width=4), (1, 8, 8), n_classes=0)
        >>> network.decode(torch.zeros(2, 16), None).shape
        torch.Size([2, 2, 8, 8])
    """

    # Measured by benchmarks/vae_precision.py: the same held-out ELBO within seed noise, at half the time.
    bf16_pays_on_cpu = True
    channels_last_pays = True

    def __init__(self, config: VAEConfig, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        self.config, self.n_classes, self.observation = config, n_classes, OBSERVATIONS[config.likelihood]
        channels, height, width = shape
        size = {"width": config.width, "levels": config.levels}
        handed_up = LADDER_FEATURES if config.hierarchy == 2 else 0
        self.encoder = Encoder(
            (channels + n_classes, height, width), **size, out_features=2 * config.latent_dim + handed_up
        )
        outputs = channels * self.observation.parameters
        self.decoder = Decoder((outputs, height, width), **size, in_features=config.code_dim + n_classes)
        # p(z | y) starts as N(0, 1) for every class; without classes it stays so.
        of_prior = max(1, n_classes), config.top_dim if config.hierarchy == 2 else config.latent_dim
        self.prior_mean = nn.Parameter(torch.zeros(of_prior), bool(n_classes))
        self.prior_log_variance = nn.Parameter(torch.zeros(of_prior), bool(n_classes))

    def prior(self, y: Tensor | None) -> Gaussian:
        """Return mean and log variance of p(z | y), each (n, d), or (1, d) without classes."""
        row = slice(None) if not self.n_classes or y is None else y
        return self.prior_mean[row], self.prior_log_variance[row].clamp(-8, 8)

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def features(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Return the encoder's output (n, features) for x in [-1, 1] and classes y."""
        if self.n_classes and y is not None:
            planes = F.one_hot(y, self.n_classes).to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, planes], dim=1)
        return self.encoder(x).float()  # type: ignore[no-any-return]

    def encode(self, x: Tensor, y: Tensor | None) -> Gaussian:
        """Return mean and log variance of q(z | x, y), each (n, latent_dim), for x in [-1, 1] and classes y."""
        mean, log_variance = self.features(x, y).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 8)

    def infer(self, x: Tensor, y: Tensor | None, noise: Noise | None) -> list[Latents]:
        """Return the layers of z for images, the lowest first, each drawn from q; without noise at its mean."""
        posterior = self.encode(x, y)
        return [Latents.inferred(posterior, self.prior(y), noise.normal(*posterior[0].shape) if noise else None)]

    def draw_codes(self, y: Tensor, noise: Noise, heat: float) -> Tensor:
        """Return draws of z from the prior at a temperature, (n, code_dim), for classes (n,)."""
        return drawn(self.prior(y), heat * noise.normal(len(y), self.config.latent_dim))

    def decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Return the parameters of p(x | z, y): logits, or means and log scales along the channels."""
        if self.n_classes and y is not None:
            z = torch.cat([z, F.one_hot(y, self.n_classes).to(z.dtype)], dim=1)
        return self.decoder(z).float()  # type: ignore[no-any-return]

    def log_likelihood(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return log p(x | z) in nats per image, (n,)."""
        return self.observation.log_prob(x, parameters).flatten(1).sum(1)

    def observed(self, x: Tensor, noise: Noise) -> Tensor:
        """Return what the likelihood is of: x itself, or x binarised at random by its brightness."""
        return (noise.uniform(*x.shape) < (x + 1) / 2) * 2.0 - 1 if self.observation.binary else x

    def weigh(self, x: Tensor, y: Tensor | None, noise: Noise) -> tuple[Tensor, list[Latents]]:
        """Return log p(x | z) in nats per image, (n,), at one draw of z, and the layers of z."""
        layers = self.infer(x, y, noise)
        return self.log_likelihood(x, self.decode(codes(layers), y)), layers

    def elbo_terms(self, x: Tensor, y: Tensor | None, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return E_q log p(x | z) by one draw of z, and KL(q ‖ p), both in nats per image, (n,)."""
        reconstruction, layers = self.weigh(x, y, noise)
        return reconstruction, kl_by_coordinate(layers).sum(1)

    def log_weight(self, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """Return log p(x, z | y) − log q(z | x, y) by one draw of z, in nats per image, (n,)."""
        reconstruction, layers = self.weigh(x, y, noise)
        return sum((layer.log_ratio() for layer in layers), reconstruction)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the negative bound per pixel (the ELBO's KL term weighted and freed while training) and its parts.

        `kl_max` and `kl_min` are the largest and smallest KL of a latent coordinate, in nats; a validation counts the
        active ones too.
        """
        x, noise = self.observed(batch.x, batch.noise), batch.noise
        log_likelihood, layers = self.weigh(x, batch.y, noise)
        reconstruction = log_likelihood.mean()
        by_coordinate = kl_by_coordinate(layers).mean(0)
        kl = by_coordinate.sum()
        if self.training and self.config.train_importance_samples > 1:
            objective = -self._iwae_bound(x, batch.y, noise)
        else:
            objective = self._kl_weight(batch.step) * self._freed(by_coordinate) - reconstruction
        values = {
            "loss": objective / x[0].numel(),
            "negative_elbo": kl - reconstruction,
            "reconstruction": -reconstruction,
            "kl": kl,
            "kl_max": by_coordinate.max(),
            "kl_min": by_coordinate.min(),
        }
        return values if self.training else values | {"active_units": active(news(layers)).sum()}

    def _kl_weight(self, step: int) -> float:
        if not (self.training and self.config.kl_warmup_steps):
            return self.config.beta
        return self.config.beta * min(1.0, (step + 1) / self.config.kl_warmup_steps)

    def _freed(self, by_coordinate: Tensor) -> Tensor:
        """Return Σ_j max(λ, KL_j) for KL_j averaged over the whole batch, whichever process holds which rows.

        Source: Kingma et al. (2016), arXiv:1606.04934, the objective with free bits.
        """
        if not self.config.free_bits:
            return by_coordinate.sum()
        means = by_coordinate.detach()
        if self.training:  # one process validates for all
            means = means.new_tensor(list(distributed.mean({str(j): kl for j, kl in enumerate(means)}).values()))
        return torch.where(means > self.config.free_bits, by_coordinate, self.config.free_bits).sum()

    def _iwae_bound(self, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """Return E log 1/K Σ_k p(x, z_k | y) / q(z_k | x, y), in nats: Burda et al. (2016), arXiv:1509.00519."""
        draws = self.config.train_importance_samples
        weights = torch.stack([self.log_weight(x, y, noise) for _ in range(draws)])
        return (torch.logsumexp(weights, dim=0) - math.log(draws)).mean()


class LadderNetwork(VAENetwork):
    """A VAE of two layers: p(z₂ | y) p(z₁ | z₂, y) p(x | z₁, z₂, y), inferred from the top down.

    What the image says of z₁ and what z₂ says of it are weighed by their precisions. The decoder sees z₂ as well as z₁,
    so that each coordinate of a code has its effect on the image.

    References:
        Sønderby et al. (2016), arXiv:1602.02282.
    """

    def __init__(self, config: VAEConfig, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__(config, shape, n_classes)
        self.ladder = Ladder(
            n_features=LADDER_FEATURES, latent_dim=config.latent_dim, top_dim=config.top_dim, n_classes=n_classes
        )

    def infer(self, x: Tensor, y: Tensor | None, noise: Noise | None) -> list[Latents]:
        """Return z₁ and z₂ for images, each drawn from q; without noise at its mean."""
        latent_dim, top_dim = self.config.latent_dim, self.config.top_dim
        features = self.features(x, y)
        mean, log_variance = features[:, : 2 * latent_dim].chunk(2, dim=1)
        handed_up = features[:, 2 * latent_dim :]
        top = Latents.inferred(
            self.ladder.upward(handed_up), self.prior(y), noise.normal(len(x), top_dim) if noise else None
        )
        prior = self.ladder.downward(top.z, y)
        posterior = precision_weighted((mean, log_variance.clamp(-12, 8)), prior)
        return [Latents.inferred(posterior, prior, noise.normal(len(x), latent_dim) if noise else None), top]

    def draw_codes(self, y: Tensor, noise: Noise, heat: float) -> Tensor:
        """Return draws of (z₁, z₂) from the prior at a temperature, (n, code_dim), for classes (n,)."""
        top = drawn(self.prior(y), heat * noise.normal(len(y), self.config.top_dim))
        lower = drawn(self.ladder.downward(top, y), heat * noise.normal(len(y), self.config.latent_dim))
        return torch.cat([lower, top], dim=1)


class VAE(NeuralImageModel, DensityModel):
    """Convolutional VAE with a Gaussian prior, one a class when conditional.

    References:
        Kingma & Welling (2014), arXiv:1312.6114; Higgins et al. (2017) for β; Sønderby et al. (2016), arXiv:1602.02282,
        for warm-up and two layers; Kingma et al. (2016), arXiv:1606.04934, for free bits; Burda et al. (2016),
        arXiv:1509.00519, for the importance-weighted bound and active units.

    Args:
        config: a VAEConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> from simulacra.training.config import TrainingConfig
        >>> model = VAE(VAEConfig(width=4, latent_dim=2))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> model.sample(3, seed=0).images.shape
        (3, 1, 8, 8)
    """

    name = "vae"
    Config = VAEConfig
    config: VAEConfig
    sampling_options: ClassVar[Mapping[str, str]] = {"temperature": "temperature"}
    network: VAENetwork

    chunk = CHUNK

    @property
    def likelihood(self) -> Likelihood:
        """Say what the ELBO is of."""
        binarisation: Literal["random", "none"] = "random" if self.config.likelihood == "bernoulli" else "none"
        return Likelihood(bound=True, binarisation=binarisation, classes_summed_out=self.conditional)

    def build(self) -> VAENetwork:
        """Return an untrained network."""
        network = LadderNetwork if self.config.hierarchy == 2 else VAENetwork
        return network(self.config, self.shape, len(self.class_names) if self.conditional else 0)

    def learn(self, train: ImageSet, training: TrainingConfig, **options: Any) -> History:
        """Train the network, and look whether its posterior has collapsed: see `units`."""
        history = super().learn(train, training, **options)
        validation = options.get("validation")
        history.facts |= self.units(validation or train)
        n_active, n_units = history.facts["active_units"], self.config.code_dim
        # Without validation it is one of many short fits, such as an augmentation trial's, and would tell it each time.
        if validation and 2 * n_active < n_units and distributed.here().leads:
            logger.warning(
                "vae: the posterior has collapsed: %d of %d latent coordinates are active, the others say nothing of "
                "the image. Lower model.beta, raise model.kl_warmup_steps, set model.free_bits, or train longer",
                n_active,
                n_units,
            )
        return history

    @torch.inference_mode()
    def units(self, data: ImageSet) -> dict[str, Any]:
        """Return how many latent coordinates are active over some images, and the mean KL of each in nats."""
        parts = [
            self.network.infer(self.network.observed(x, Noise(0, number)), y, Noise(1, number))
            for number, (x, y) in enumerate(self._chunks(data))
        ]
        kl = torch.cat([kl_by_coordinate(layers) for layers in parts]).mean(0)
        return {
            "active_units": int(active(torch.cat([news(layers) for layers in parts])).sum()),
            "kl_per_unit": [round(value, 4) for value in kl.tolist()],
        }

    def _chunks(self, data: ImageSet) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield pixels in [-1, 1] and, for a conditional model, classes."""
        if self.conditional and data.labels is None:
            raise SimulacraError("vae was fitted with classes: it infers z from an image and its label, and has none")
        for start in range(0, len(data), CHUNK):
            rows = slice(start, start + CHUNK)
            labels = torch.from_numpy(data.labels[rows]) if self.conditional and data.labels is not None else None
            yield to_float(torch.from_numpy(data.images[rows])), labels

    @torch.inference_mode()
    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw z from the prior and return decoded images."""
        classes = self.choose_classes(n, condition, np.random.default_rng(seed))
        noise, images = Noise(seed), np.empty((n, *self.shape), np.uint8)
        for start in range(0, n, CHUNK):
            chunk = self._decode_chunk(torch.from_numpy(classes[start : start + CHUNK]), noise)
            images[start : start + CHUNK] = chunk.numpy()
        return self.labelled(images, classes)

    def _decode_chunk(self, y: Tensor, noise: Noise) -> Tensor:
        parameters = self.network.decode(self.network.draw_codes(y, noise, self.config.temperature), y)
        observation = self.network.observation
        if self.config.observation_noise:
            return to_uint8(observation.drawn(parameters, noise.uniform(len(y), *self.shape)))
        return to_uint8(observation.mean(parameters))

    def elbo(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> NDArray[np.float64]:
        """Return a lower bound on log p(x) in nats per image, (n,): the ELBO, or with more samples the IWAE bound.

        A conditional model's classes are summed out, log p(x) ≥ log Σ_y p(y) exp(ELBO(x | y)), so that the figure
        compares with that of a model without classes.
        """
        return self.marginal(images, seed=seed, importance_samples=importance_samples)

    @torch.inference_mode()
    def log_likelihoods(self, images: NDArray[np.uint8], noise: Noise) -> NDArray[np.float64]:
        """Return log p(x, z | y) − log q(z | x, y) of one draw of z a class, (n, classes)."""
        x = self.network.observed(to_float(torch.from_numpy(images)), noise)
        classes: list[int | None] = list(range(len(self.class_names))) if self.conditional else [None]
        labels = [None if label is None else torch.full((len(x),), label) for label in classes]
        return torch.stack([self.network.log_weight(x, y, noise) for y in labels], dim=1).double().numpy()

    @torch.inference_mode()
    def encode(self, data: ImageSet) -> NDArray[np.float32]:
        """Return the posterior means of all layers side by side, the lowest first, (n, code_dim).

        Raises:
            SimulacraError: where a conditional model gets images without labels.
        """
        found = [codes(self.network.infer(x, y, None)) for x, y in self._chunks(data)]
        return torch.cat(found or [torch.empty(0, self.config.code_dim)]).numpy()

    @torch.inference_mode()
    def decode(self, z: NDArray[np.float32], *, condition: Condition = None) -> ImageSet:
        """Return the mean images of codes (n, code_dim)."""
        classes = self.choose_classes(len(z), condition, np.random.default_rng(0))
        images = np.empty((len(z), *self.shape), np.uint8)
        for start in range(0, len(z), CHUNK):
            rows = slice(start, start + CHUNK)
            parameters = self.network.decode(torch.from_numpy(z[rows]), torch.from_numpy(classes[rows]))
            images[rows] = to_uint8(self.network.observation.mean(parameters)).numpy()
        return self.labelled(images, classes)

"""Variational autoencoder: Kingma & Welling (2014), arXiv:1312.6114; class-conditional as Sohn et al. (2015)."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.data.image_set import ImageSet
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.density import DensityModel
from simulacra.models.neural import NeuralModel
from simulacra.nn.convolution import Decoder, Encoder
from simulacra.nn.distributions import discretised_logistic_log_prob, gaussian_kl, gaussian_log_prob
from simulacra.training.batches import Batch, to_float, to_uint8
from simulacra.training.noise import Noise
from simulacra.training.trainable import Trainable

CHUNK = 500
LOG_SCALE_FLOOR = -7.0
"""Smallest log scale of a pixel: below a tenth of a grey level a logistic is a point mass, and gradients explode."""


class VAEConfig(ModelConfig):
    """Hyper-parameters of the VAE."""

    latent_dim: int = Field(16, ge=1, description="coordinates of z")
    width: int = Field(32, ge=4, description="channels of the finest level; doubles a level")
    levels: int = Field(2, ge=1, le=5, description="halvings of the image")
    likelihood: Literal["discretised_logistic", "bernoulli"] = Field(
        "discretised_logistic", description="of 256 grey levels, or of pixels binarised at random by their brightness"
    )
    beta: float = Field(1.0, ge=0, description="weight of the KL term; 1 makes the loss the negative ELBO")
    kl_warmup_steps: int = Field(0, ge=0, description="steps over which the KL term's weight grows from 0 to beta")
    conditional: bool = Field(True, description="model p(x | y) where the data carry classes")
    observation_noise: bool = Field(False, description="sample x from p(x | z) rather than take its mean")


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
        self.config, self.n_classes = config, n_classes
        channels, height, width = shape
        size = {"width": config.width, "levels": config.levels}
        self.encoder = Encoder((channels + n_classes, height, width), **size, out_features=2 * config.latent_dim)
        # A logistic needs a mean and a scale a pixel, a Bernoulli one logit.
        outputs = channels if config.likelihood == "bernoulli" else 2 * channels
        self.decoder = Decoder((outputs, height, width), **size, in_features=config.latent_dim + n_classes)
        # p(z | y) starts as N(0, 1) for every class; without classes it stays so.
        self.prior_mean = nn.Parameter(torch.zeros(max(1, n_classes), config.latent_dim), bool(n_classes))
        self.prior_log_variance = nn.Parameter(torch.zeros(max(1, n_classes), config.latent_dim), bool(n_classes))

    def prior(self, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of p(z | y), each (n, latent_dim), or (1, latent_dim) without classes."""
        row = slice(None) if not self.n_classes or y is None else y
        return self.prior_mean[row], self.prior_log_variance[row].clamp(-8, 8)

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def encode(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x, y), each (n, latent_dim), for x in [-1, 1] and classes y."""
        if self.n_classes and y is not None:
            planes = F.one_hot(y, self.n_classes).to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, planes], dim=1)
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 8)

    def decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Return the parameters of p(x | z, y): logits, or means and log scales along the channels."""
        if self.n_classes and y is not None:
            z = torch.cat([z, F.one_hot(y, self.n_classes).to(z.dtype)], dim=1)
        return self.decoder(z).float()  # type: ignore[no-any-return]

    def log_likelihood(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return log p(x | z) in nats per image, (n,); under Bernoulli, x holds -1 and 1 only."""
        if self.config.likelihood == "bernoulli":
            pixels = -F.binary_cross_entropy_with_logits(parameters, (x + 1) / 2, reduction="none")
        else:
            mean, log_scale = parameters.chunk(2, dim=1)
            pixels = discretised_logistic_log_prob(x, mean, log_scale.clamp(min=LOG_SCALE_FLOOR))
        return pixels.flatten(1).sum(1)

    def observed(self, x: Tensor, noise: Noise) -> Tensor:
        """Return what the likelihood is of: x itself, or x binarised at random by its brightness."""
        return (noise.uniform(*x.shape) < (x + 1) / 2) * 2.0 - 1 if self.config.likelihood == "bernoulli" else x

    def elbo_terms(self, x: Tensor, y: Tensor | None, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return E_q log p(x | z) by one draw of z, and KL(q ‖ p), both in nats per image, (n,)."""
        mean, log_variance = self.encode(x, y)
        z = mean + torch.exp(0.5 * log_variance) * noise.normal(*mean.shape)
        return self.log_likelihood(x, self.decode(z, y)), gaussian_kl(mean, log_variance, *self.prior(y)).sum(1)

    def log_weight(self, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """Return log p(x, z | y) − log q(z | x, y) by one draw of z, in nats per image, (n,)."""
        mean, log_variance = self.encode(x, y)
        z = mean + torch.exp(0.5 * log_variance) * noise.normal(*mean.shape)
        log_q = gaussian_log_prob(z, mean, log_variance)
        return self.log_likelihood(x, self.decode(z, y)) + (gaussian_log_prob(z, *self.prior(y)) - log_q).sum(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the negative ELBO per pixel (its KL term weighted by β and warm-up while training) and its parts."""
        x = self.observed(batch.x, batch.noise)
        reconstruction, kl = (term.mean() for term in self.elbo_terms(x, batch.y, batch.noise))
        weight = self.config.beta
        if self.training and self.config.kl_warmup_steps:
            weight *= min(1.0, (batch.step + 1) / self.config.kl_warmup_steps)
        pixels = x[0].numel()
        return {
            "loss": (weight * kl - reconstruction) / pixels,
            "negative_elbo": kl - reconstruction,
            "reconstruction": -reconstruction,
            "kl": kl,
        }

    def mean_image(self, parameters: Tensor) -> Tensor:
        """Return the observation's mean, images in [-1, 1]."""
        if self.config.likelihood == "bernoulli":
            return torch.sigmoid(parameters) * 2 - 1
        return parameters.chunk(2, dim=1)[0]

    def drawn_image(self, parameters: Tensor, noise: Noise) -> Tensor:
        """Return a draw of the observation, images in [-1, 1]."""
        if self.config.likelihood == "bernoulli":
            return (noise.uniform(*parameters.shape) < torch.sigmoid(parameters)) * 2.0 - 1
        mean, log_scale = parameters.chunk(2, dim=1)
        uniform = noise.uniform(*mean.shape).clamp(1e-6, 1 - 1e-6)
        return mean + log_scale.clamp(min=LOG_SCALE_FLOOR).exp() * torch.logit(uniform)


class VAE(NeuralModel, DensityModel):
    """Convolutional VAE with a Gaussian prior, one a class when conditional.

    References:
        Kingma & Welling (2014), arXiv:1312.6114; Higgins et al. (2017) for β; Sønderby et al. (2016) for warm-up.

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
    network: VAENetwork

    chunk = CHUNK

    @property
    def likelihood(self) -> Likelihood:
        """Say what the ELBO is of."""
        binarisation: Literal["random", "none"] = "random" if self.config.likelihood == "bernoulli" else "none"
        return Likelihood(bound=True, binarisation=binarisation, classes_summed_out=self.conditional)

    def build(self) -> VAENetwork:
        """Return an untrained network."""
        return VAENetwork(self.config, self.shape, len(self.class_names) if self.conditional else 0)

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
        mean, log_variance = self.network.prior(y)
        z = mean + torch.exp(0.5 * log_variance) * noise.normal(len(y), self.config.latent_dim)
        parameters = self.network.decode(z, y)
        if self.config.observation_noise:
            return to_uint8(self.network.drawn_image(parameters, noise))
        return to_uint8(self.network.mean_image(parameters))

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
        """Return the posterior means (n, latent_dim); a conditional model needs the labels."""
        labels = None if data.labels is None else torch.from_numpy(data.labels)
        mean, _ = self.network.encode(to_float(torch.from_numpy(data.images)), labels)
        return mean.numpy()

    @torch.inference_mode()
    def decode(self, z: NDArray[np.float32], *, condition: Condition = None) -> ImageSet:
        """Return the mean images of latent points (n, latent_dim)."""
        classes = self.choose_classes(len(z), condition, np.random.default_rng(0))
        parameters = self.network.decode(torch.from_numpy(z), torch.from_numpy(classes))
        return self.labelled(to_uint8(self.network.mean_image(parameters)).numpy(), classes)

"""Generative adversarial networks: Goodfellow et al. (2014), arXiv:1406.2661, with later objectives and penalties."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.base import Condition, ModelConfig
from simulacra.models.neural import NeuralImageModel
from simulacra.nn.adversarial import (
    CLASS_FEATURES,
    DcganFeatures,
    DcganGenerator,
    Discriminator,
    Features,
    Generator,
    MlpFeatures,
    MlpGenerator,
    ResnetFeatures,
    ResnetGenerator,
)
from simulacra.nn.augment import DRAWS, augmented
from simulacra.nn.keras_mlp import KerasMlpGenerator
from simulacra.training import distributed
from simulacra.training.adversarial import OBJECTIVES, gradient_penalty, r1_penalty
from simulacra.training.batches import Batch, to_uint8
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History
from simulacra.training.noise import Noise
from simulacra.training.trainable import Trainable, Update

logger = logging.getLogger(__name__)

CHUNK = 500
"""Images that are drawn at once."""


class GANConfig(ModelConfig):
    """Hyper-parameters of the GAN."""

    architecture: Literal["mlp", "dcgan", "resnet", "keras_mlp"] = Field(
        "dcgan", description="of both networks; keras_mlp is a dense generator in Keras against mlp's discriminator"
    )
    objective: Literal["minimax", "non_saturating", "hinge", "wasserstein"] = Field(
        "non_saturating", description="what the two networks play for"
    )
    latent_dim: int = Field(64, ge=1, description="coordinates of the noise z")
    width: int = Field(32, ge=1, description="channels of the finest level, of dcgan and resnet; doubles a level")
    levels: int = Field(2, ge=1, le=5, description="halvings of the image, of dcgan and resnet")
    conditional: bool = Field(True, description="model p(x | y) where the data carry classes")
    r1: float = Field(0.0, ge=0, description="γ of the R1 penalty on the discriminator's gradient at real images")
    gradient_penalty: float = Field(
        0.0, ge=0, description="λ of the penalty on gradients between real and generated images whose norm is not 1"
    )
    spectral_norm: bool = Field(True, description="keep the largest singular value of the discriminator's layers at 1")
    n_critic: int = Field(1, ge=1, description="the discriminator's steps to one of the generator; all count as steps")
    diffaug: tuple[Literal["color", "translation", "cutout"], ...] = Field(
        (), description="differentiable augmentations of what the discriminator sees, against learning data by heart"
    )
    beta1: float = Field(0.0, ge=0, lt=1, description="AdamW's decay of the gradient's mean")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW's decay of the gradient's square")
    discriminator_rate: float = Field(
        1.0, gt=0, description="the discriminator's learning rate as a multiple of the generator's, learning_rate"
    )

    @model_validator(mode="after")
    def _critic_is_bounded(self) -> Self:
        if self.objective == "wasserstein" and not (self.gradient_penalty or self.spectral_norm):
            raise ValueError(
                "objective wasserstein needs a critic of bounded slope: set gradient_penalty (10 is usual) or "
                "spectral_norm"
            )
        return self


def generator_for(config: GANConfig, shape: tuple[int, int, int], n_classes: int) -> Generator:
    """Return an untrained generator."""
    in_features = config.latent_dim + (CLASS_FEATURES if n_classes else 0)
    body: nn.Module
    match config.architecture:
        case "mlp":
            body = MlpGenerator(in_features, shape)
        case "keras_mlp":
            body = KerasMlpGenerator(in_features, shape)
        case "dcgan":
            body = DcganGenerator(in_features, shape, width=config.width, levels=config.levels)
        case "resnet":
            body = ResnetGenerator(in_features, shape, width=config.width, levels=config.levels)
    return Generator(body, n_classes)


def discriminator_for(config: GANConfig, shape: tuple[int, int, int], n_classes: int) -> Discriminator:
    """Return an untrained discriminator."""
    features: Features
    match config.architecture:
        case "mlp" | "keras_mlp":
            features = MlpFeatures(shape)
        case "dcgan":
            features = DcganFeatures(shape, width=config.width, levels=config.levels)
        case "resnet":
            features = ResnetFeatures(shape, width=config.width, levels=config.levels)
    return Discriminator(features, n_classes, spectral=config.spectral_norm)


class GANNetwork(Trainable):
    """Generator and discriminator, each with a loss and an optimiser of its own.

    Args:
        config: hyper-parameters.
        shape: channels, height and width.
        n_classes: classes that both are conditioned on; 0 for none.
    """

    # A collapse of the generator shows in its own weights at once, in their average only when the older ones fade.
    watched_as_averaged = False

    def __init__(self, config: GANConfig, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        self.config, self.objective = config, OBJECTIVES[config.objective]
        # Measured: a step of convolutions takes two thirds of fp32's time in bf16, one of dense layers no less.
        self.bf16_pays_on_cpu = config.architecture in ("dcgan", "resnet")
        self.generator = generator_for(config, shape, n_classes)
        self.discriminator = discriminator_for(config, shape, n_classes)

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def averages(self, key: str) -> bool:
        """Tell whether an entry of the state is the generator's; an average of discriminators has played no game."""
        return key.startswith("generator.")

    def updates(self) -> Sequence[Update]:
        """Return the discriminator's update, and the generator's, whose turn comes every n_critic steps."""
        config, betas = self.config, (self.config.beta1, self.config.beta2)
        # Keras's moving statistics are parameters that no optimiser may move.
        movable = [parameter for parameter in self.generator.parameters() if parameter.requires_grad]
        return (
            Update(
                "discriminator",
                self.discriminator_loss,
                list(self.discriminator.parameters()),
                rate=config.discriminator_rate,
                betas=betas,
            ),
            Update("generator", self.generator_loss, movable, every=config.n_critic, betas=betas),
        )

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the discriminator's objective with its penalties, and how well it tells real from generated images.

        `win_rate` is the share of pairs, one image of the batch and one sample of the same class, of which it scores
        the real one higher: 0.5 where it cannot tell, 1 where it always can.
        """
        config, real = self.config, batch.x.detach().requires_grad_(self.config.r1 > 0)
        with torch.no_grad():
            fake = self.generated(batch)
        seen = self.seen(real, batch.noise), self.seen(fake, batch.noise)
        scores = self.scores(*seen, batch.y)
        values, penalties = self.judged(*scores), {}
        if config.r1:
            penalties["r1"] = config.r1 * r1_penalty(scores[0], real)
        if config.gradient_penalty:
            uniform = batch.noise.uniform(len(real), 1, 1, 1)
            slope = gradient_penalty(lambda x: self.discriminator(x, batch.y), *seen, uniform)
            penalties["gradient_penalty"] = config.gradient_penalty * slope
        return values | {"loss": sum(penalties.values(), values["loss"])} | penalties

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the generator's objective on samples of the batch's classes."""
        with frozen(self.discriminator):
            scores = self.discriminator(self.seen(self.generated(batch), batch.noise), batch.y)
        return {"loss": self.objective.generator(scores)}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the discriminator's objective without penalties, and its win rate, for validation.

        It says how well the discriminator tells held-out images from samples, not how good these are: where it grows
        while that on training images falls, the discriminator learns those by heart.
        """
        seen = self.seen(batch.x, batch.noise), self.seen(self.generated(batch), batch.noise)
        return self.judged(*self.scores(*seen, batch.y))

    def generated(self, batch: Batch) -> Tensor:
        """Return samples in [-1, 1], as many as the batch has rows and of the same classes."""
        return self.generator(batch.noise.normal(len(batch.x), self.config.latent_dim), batch.y)  # type: ignore[no-any-return]

    def seen(self, x: Tensor, noise: Noise) -> Tensor:
        """Return images as the discriminator sees them: augmented, where that is asked for."""
        return augmented(x, noise.uniform(len(x), DRAWS), self.config.diffaug) if self.config.diffaug else x

    def scores(self, real: Tensor, fake: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the discriminator's scores of real and of generated images of the same classes, (n,) each."""
        found = self.discriminator(torch.cat([real, fake]), None if y is None else torch.cat([y, y]))
        return found[: len(real)], found[len(real) :]

    def judged(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the discriminator's objective and what tells how the game stands, of scores of either kind."""
        return {
            "loss": self.objective.discriminator(real, fake),
            "win_rate": (real > fake).float().mean(),
            "real_score": real.mean(),
            "fake_score": fake.mean(),
        }


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Record no gradient of the module's own parameters in the block; one of its input passes through as always."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class GAN(NeuralImageModel):
    """Generative adversarial network, class-conditional by a projection discriminator; it has no likelihood.

    References:
        Goodfellow et al. (2014), arXiv:1406.2661; Lim & Ye (2017), arXiv:1705.02894, for hinge; Gulrajani et al.
        (2017), arXiv:1704.00028, for Wasserstein with gradient penalty; Mescheder et al. (2018), arXiv:1801.04406, for
        R1; Miyato et al. (2018), arXiv:1802.05957, for spectral normalisation; Miyato & Koyama (2018),
        arXiv:1802.05637, for classes; Zhao et al. (2020), arXiv:2006.10738, for augmentation.

    Args:
        config: a GANConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> from simulacra.training.config import TrainingConfig
        >>> model = GAN(GANConfig(width=4, latent_dim=2))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> model.sample(3, seed=0).images.shape
        (3, 1, 8, 8)
    """

    name = "gan"
    Config = GANConfig
    config: GANConfig
    network: GANNetwork

    def build(self) -> GANNetwork:
        """Return untrained networks."""
        return GANNetwork(self.config, self.shape, len(self.class_names) if self.conditional else 0)

    def fit(self, train: ImageSet, *, training: TrainingConfig, **options: Any) -> History:
        """Train both networks, see `NeuralImageModel.fit`.

        Raises:
            SimulacraError: where a generator in Keras is to be trained in several processes.
        """
        if self.config.architecture == "keras_mlp" and training.processes * training.hosts > 1:
            raise SimulacraError(
                "gan.model.architecture=keras_mlp trains in one process only, since Keras normalises over each "
                "process's share of a batch; set gan.training.processes and gan.training.hosts to 1, or architecture "
                "to mlp"
            )
        return super().fit(train, training=training, **options)

    def learn(self, train: ImageSet, training: TrainingConfig, **options: Any) -> History:
        """Train both networks, to the end: no loss of theirs is least where samples are best.

        Raises:
            SimulacraError: where training.compile is asked for beside a penalty.
        """
        if training.compile is True and (self.config.r1 or self.config.gradient_penalty):
            raise SimulacraError(
                "gan: torch.compile cannot build a loss that holds a gradient penalty; set training.compile=auto, or "
                "model.r1 and model.gradient_penalty to 0"
            )
        if training.patience or training.keep_best:
            training = training.model_copy(update={"patience": 0, "keep_best": False})
            if distributed.here().leads:
                logger.warning(
                    "gan: goes without training.patience and training.keep_best: the validation loss is the "
                    "discriminator's, and does not fall as samples get better"
                )
        return super().learn(train, training, **options)

    @torch.inference_mode()
    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Draw z from N(0, 1) and return what the generator makes of it."""
        classes = self.choose_classes(n, condition, np.random.default_rng(seed))
        noise, images = Noise(seed), np.empty((n, *self.shape), np.uint8)
        for start in range(0, n, CHUNK):
            y = torch.from_numpy(classes[start : start + CHUNK])
            z = noise.normal(len(y), self.config.latent_dim)
            images[start : start + CHUNK] = to_uint8(self.network.generator(z, y)).numpy()
        return self.labelled(images, classes)

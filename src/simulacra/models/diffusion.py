"""Diffusion models: Ho et al. (2020), arXiv:2006.11239; flow matching, EDM, and diffusion of an autoencoder's codes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from simulacra.data.captions import SIDES, TOLD, UNSAID, Captions, learn_thirds
from simulacra.data.image_set import ImageSet
from simulacra.diffusion import elbo, samplers
from simulacra.diffusion.film import Film
from simulacra.diffusion.formulations import DDPM, EDM, Denoise, FlowMatching, Formulation, Spacing, couple
from simulacra.diffusion.guidance import clipped, guided
from simulacra.diffusion.samplers import DETERMINISTIC, Normal, State, final
from simulacra.diffusion.schedules import Level, noised
from simulacra.errors import SimulacraError
from simulacra.metrics.likelihood import Likelihood
from simulacra.models.base import Condition, GenerativeModel, ModelConfig, Prompt, prompts_in
from simulacra.models.neural import NeuralImageModel
from simulacra.models.vae import VAE, VAEConfig, VAENetwork
from simulacra.nn.latents import codes
from simulacra.nn.residual_mlp import ResidualMLP
from simulacra.nn.text_encoder import TextEncoder
from simulacra.nn.unet import ClassEmbedding, UNet
from simulacra.training import checkpoint, distributed
from simulacra.training.batches import Batch, to_float, to_uint8
from simulacra.training.config import TrainingConfig
from simulacra.training.device import autocast, resolve_precision
from simulacra.training.history import Callback, History
from simulacra.training.noise import Noise
from simulacra.training.progress import sampling
from simulacra.training.trainable import Trainable

CHUNK = 250
AUTOENCODER_FOLDER = "autoencoder"
"""Where, inside the folder of checkpoints, the training of the autoencoder keeps its own."""
SIGNAL = 2.0
"""Deviation of pixels by which the times are chosen that the ELBO is estimated from; it changes no mean.

More than pixels have, so that enough looks fall where noise is strong, which is where classes differ.
"""
WORD_SHARE = 0.5
"""How often each word of a caption but the class's is said while training, whatever the image, so that silence about
an attribute says nothing of it."""

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
Pixels = NDArray[np.uint8]


class DiffusionConfig(ModelConfig):
    """Hyper-parameters of the diffusion model."""

    formulation: Literal["ddpm", "flow_matching", "edm"] = Field("ddpm", description="how noise is added and undone")
    timesteps: int = Field(4000, ge=2, description="steps of the process that is learnt; for ddpm")
    schedule: Literal["linear", "cosine"] = Field("cosine", description="how the noise grows; for ddpm")
    prediction: Literal["epsilon", "x0", "v"] = Field("v", description="what the network answers; for ddpm")
    min_snr_gamma: float = Field(0.0, ge=0, description="weigh times by min-SNR-gamma; 0 weighs all alike; for ddpm")
    optimal_transport: bool = Field(
        True, description="pair images and noise of a batch at least cost, class by class; for flow_matching"
    )
    sampler: Literal["ancestral", "ddim", "euler", "heun", "midpoint", "dpm_solver", "sde_dpm_solver"] = Field(
        "sde_dpm_solver", description="how noise is undone; any goes with any formulation"
    )
    sampler_steps: int = Field(
        20, ge=1, description="steps of the sampler; heun and midpoint evaluate the network twice a step"
    )
    spacing: Spacing = Field(
        "time",
        description="levels that the sampler passes: evenly in time, or karras: denser the less noise there is, as edm "
        "always has them",
    )
    eta: float = Field(0.0, ge=0, le=1, description="share of the ancestral sampler's noise; for ddim")
    guidance: float = Field(
        1.0,
        ge=0,
        description="weight of the class or prompt; above 1 samples are more typical of it, at twice the work",
    )
    unconditional_share: float = Field(0.1, ge=0, lt=1, description="share of images trained on without their class")
    captions: bool = Field(
        True, description="tell the class in words, and what pixels show, so that prompts can ask for it"
    )
    clip: bool = Field(True, description="clip estimated images to the pixels' range; for pixel space")
    width: int = Field(48, ge=4, description="channels of the finest level")
    multipliers: tuple[int, ...] = Field(
        (1, 2), min_length=1, description="factor of the width at each level; one halving between each two"
    )
    blocks: int = Field(1, ge=1, description="residual blocks a level, on the way down and up each")
    heads: int = Field(4, ge=0, description="heads of the attention at the coarsest level; 0 for none")
    patch: int = Field(2, ge=1, description="side of the squares of pixels that are worked on as one")
    detail: tuple[int, ...] = Field(
        (3, 5, 7), description="k of the 2^k π x whose sines and cosines are shown beside the pixels x; may be none"
    )
    elbo_evaluations: int = Field(
        4, ge=2, multiple_of=2, description="times that a test image's ELBO is estimated from, besides the first"
    )
    space: Literal["pixel", "latent"] = Field("pixel", description="what is diffused: pixels, or codes of a VAE")
    autoencoder: VAEConfig = Field(
        VAEConfig(conditional=False), description="the VAE, without classes, that is trained first; for latent space"
    )
    autoencoder_steps: int = Field(1000, ge=1, description="optimiser steps of the VAE; for latent space")
    mlp_width: int = Field(256, ge=8, description="size of the layers that denoise codes; for latent space")
    mlp_blocks: int = Field(4, ge=1, description="residual blocks that denoise codes; for latent space")
    conditional: bool = Field(True, description="sample by class where the data carry classes")

    @model_validator(mode="after")
    def _guidance_has_something_to_compare_with(self) -> Self:
        if self.conditional and self.guidance != 1 and not self.unconditional_share:
            raise ValueError(
                "guidance other than 1 compares with estimates without class: set unconditional_share above 0"
            )
        return self

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> Self:
        if self.heads and self.width * self.multipliers[-1] % self.heads:
            raise ValueError(f"heads {self.heads} must divide width × the last of multipliers")
        return self

    @model_validator(mode="after")
    def _codes_are_without_classes(self) -> Self:
        if self.space == "latent" and self.autoencoder.conditional:
            raise ValueError("autoencoder.conditional must be false: the class is the diffusion's to know")
        return self

    def build_formulation(self) -> Formulation:
        """Return the formulation."""
        if self.formulation == "flow_matching":
            return FlowMatching()
        if self.formulation == "edm":
            return EDM(sigma_data=1.0 if self.space == "latent" else 0.5)
        return DDPM(
            timesteps=self.timesteps,
            schedule=self.schedule,
            prediction=self.prediction,
            min_snr_gamma=self.min_snr_gamma,
        )


class DiffusionNetwork(Trainable):
    """What answers for noisy images or codes, their classes' or captions' vectors, and the loss.

    Args:
        config: the hyper-parameters.
        shape: of one image.
        n_classes: classes; 0 for none.
        captions: how the classes are told in words; None for a table of vectors.

    Example:
        >>> network = DiffusionNetwork(DiffusionConfig(width=8), (1, 8, 8), n_classes=3)
        >>> denoise = network.denoiser(network.classes(torch.tensor([0, 2])))
        >>> denoise(torch.zeros(2, 1, 8, 8), network.formulation.levels(5)[0]).shape
        torch.Size([2, 1, 8, 8])
    """

    bf16_pays_on_cpu = True
    channels_last_pays = True
    thirds: Tensor
    shift: Tensor
    scale: Tensor
    decoder_sigma: Tensor

    def __init__(
        self, config: DiffusionConfig, shape: tuple[int, int, int], n_classes: int, captions: Captions | None = None
    ) -> None:
        super().__init__()
        self.config, self.n_classes = config, n_classes
        self.formulation = config.build_formulation()
        condition_dim = 4 * config.width if n_classes else 0
        self.classes: ClassEmbedding | TextEncoder | None = None
        if captions:
            self.classes = TextEncoder(*captions.tokens(), condition_dim)
            self.register_buffer("thirds", torch.zeros(captions.thirds.shape))
        elif n_classes:
            self.classes = ClassEmbedding(n_classes, condition_dim)
        self.net: nn.Module
        if config.space == "latent":
            self.shape: tuple[int, ...] = (config.autoencoder.code_dim,)
            sizes = {"width": config.mlp_width, "blocks": config.mlp_blocks}
            self.net = ResidualMLP(self.shape[0], **sizes, condition_dim=condition_dim)
        else:
            self.shape = shape
            self.net = UNet(
                shape[0],
                **config.model_dump(include={"width", "multipliers", "blocks", "heads", "patch", "detail"}),
                condition_dim=condition_dim,
            )
        # Known once the autoencoder is trained, in a tuple, since it is no part of this network: neither trained, nor
        # averaged, nor kept with it.
        self.frozen: tuple[VAENetwork, ...] = ()
        self.register_buffer("shift", torch.zeros(self.shape[0] if config.space == "latent" else 1))
        self.register_buffer("scale", torch.ones_like(self.shift))
        self.register_buffer("decoder_sigma", torch.tensor(1 / 255))

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        """Return what is diffused: images in [-1, 1] as they are, or draws of their standardised codes (n, d)."""
        if not self.frozen:
            return x
        with torch.no_grad():
            return (codes(self.frozen[0].to(x.device).infer(x, None, noise)) - self.shift) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        """Return images around [-1, 1] for what was diffused."""
        if not self.frozen:
            return x
        network = self.frozen[0].to(x.device)
        return network.observation.mean(network.decode(x * self.scale + self.shift, None))

    @torch.no_grad()
    def standardise(self, found: Tensor) -> None:
        """Have these codes come out with mean 0 and variance 1 from now on."""
        self.shift.copy_(found.mean(0))
        self.scale.copy_(found.std(0, correction=0).clamp(min=1e-6))

    def denoiser(self, condition: Tensor | None) -> Denoise:
        """Return the denoiser of states whose conditions are these, (n, condition_dim); None where there are none."""
        return self.formulation.denoise(lambda x, clock: self.net(x, clock, condition))

    def _condition(self, batch: Batch) -> Tensor | None:
        """Return the classes' or captions' vectors; while training, some lack words, and some are of the null class."""
        if self.classes is None or batch.y is None:
            return None
        y = batch.y
        if self.training:
            if isinstance(self.classes, TextEncoder):
                y = self._with_fewer_words(y, batch.noise)
            dropped = batch.noise.uniform(len(y)) < self.config.unconditional_share
            y = torch.where(dropped, self.classes.null(len(y)), y)
        return self.classes(y)  # type: ignore[no-any-return]

    def _with_fewer_words(self, captions: Tensor, noise: Noise) -> Tensor:
        """Return indices of captions without some of their words; that of the class stays."""
        places = SIDES ** torch.arange(len(TOLD), device=captions.device)
        sides = captions[:, None] // self.n_classes // places % SIDES
        said = noise.uniform(len(captions), len(TOLD)) < WORD_SHARE
        return captions % self.n_classes + self.n_classes * (torch.where(said, sides, UNSAID) * places).sum(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the formulation's mean weighted squared error."""
        condition = self._condition(batch)
        x0 = self.encode(batch.x, batch.noise)
        noise, uniform = batch.noise.normal(*x0.shape), batch.noise.uniform(len(x0))
        if self.config.formulation == "flow_matching" and self.config.optimal_transport:
            # Of several processes each pairs its own share of the batch, captions with their like.
            noise = couple(x0, noise, batch.y if self.n_classes else None)
        losses = self.formulation.losses(
            lambda x, clock: self.net(x, clock, condition), x0, noise=noise, uniform=uniform
        )
        return {"loss": losses.mean()}


class Diffusion(NeuralImageModel):
    """A network that undoes noise, class-conditional by classifier-free guidance.

    It has a likelihood, a bound, where it is a DDPM of pixels. In latent space it diffuses the standardised codes of a
    VAE, which are vectors, and a residual MLP takes the U-Net's place.

    References:
        Ho et al. (2020), arXiv:2006.11239; Nichol & Dhariwal (2021), arXiv:2102.09672; Lipman et al. (2023),
        arXiv:2210.02747; Karras et al. (2022), arXiv:2206.00364; Rombach et al. (2022), arXiv:2112.10752, for latent
        space; Ho & Salimans (2022), arXiv:2207.12598, for guidance.

    Args:
        config: a DiffusionConfig.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> model = Diffusion(DiffusionConfig(width=8, sampler_steps=3))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> model.sample(3, seed=0).images.shape
        (3, 1, 8, 8)
    """

    name = "diffusion"
    Config = DiffusionConfig
    config: DiffusionConfig
    sampling_options: ClassVar[Mapping[str, str]] = {
        "guidance": "guidance",
        "sampler": "sampler",
        "steps": "sampler_steps",
        "spacing": "spacing",
        "eta": "eta",
    }
    network: DiffusionNetwork
    autoencoder: VAE

    @property
    def likelihood(self) -> Likelihood | None:
        """Say that the ELBO is of discrete pixels; None for flow matching, EDM and latent space."""
        if self.config.formulation != "ddpm" or self.config.space == "latent":
            return None
        return Likelihood(bound=True, classes_summed_out=self.conditional)

    def begin_from(self, former: GenerativeModel[Any]) -> None:
        """Let the next `fit` begin from another model's weights; in latent space anew, since codes will be others."""
        if self.config.space == "pixel":
            super().begin_from(former)

    def build(self) -> DiffusionNetwork:
        """Return an untrained network, with an autoencoder beside it where codes are diffused."""
        if self.config.space == "latent":
            self.autoencoder = VAE(self.config.autoencoder)
            self.autoencoder.shape = self.shape
        captions = Captions(self.class_names) if self._captioned else None
        return DiffusionNetwork(self.config, self.shape, len(self.class_names) if self.conditional else 0, captions)

    @property
    def captions(self) -> Captions | None:
        """All captions that prompts may be; None for a model that takes no prompts."""
        return Captions(self.class_names, self.network.thirds.cpu().numpy()) if self._captioned else None

    @property
    def _captioned(self) -> bool:
        return self.conditional and self.config.captions

    def examples(self, data: ImageSet) -> ImageSet:
        """Return images with the index of their whole caption for a class, where the network is told captions."""
        return data if self.captions is None or data.labels is None else self.captions.describe(data)

    def learn(self, train: ImageSet, training: TrainingConfig, **options: Any) -> History:
        """Train the autoencoder where there is one, then the network, then fit the decoder's width.

        What words mean is learnt before all that.
        """
        if self._captioned:
            thirds = distributed.from_leader(lambda: learn_thirds(train))
            self.network.thirds.copy_(torch.from_numpy(thirds))
        if self.config.space == "latent":
            return self._learn_codes(train, training, **options)
        history = super().learn(train, training, **options)
        if self.likelihood:
            sigma = distributed.from_leader(lambda: self._decoder_sigma(train))
            self.network.decoder_sigma.fill_(sigma)
            history.facts |= {"decoder_sigma": sigma, "elbo_evaluations": self.config.elbo_evaluations + 1}
        return history

    def _learn_codes(
        self,
        train: ImageSet,
        training: TrainingConfig,
        *,
        checkpoints: Path | None = None,
        callbacks: Sequence[Callback] = (),
        **options: Any,
    ) -> History:
        """Train the VAE, whose curves are called `autoencoder_loss` and the like, then the network on its codes."""

        def renamed(hear: Callback) -> Callback:
            return lambda step, split, values: hear(
                step, split, {f"autoencoder_{name}": value for name, value in values.items()}
            )

        folder = checkpoints and checkpoints / AUTOENCODER_FOLDER
        budget = training.model_copy(update={"steps": self.config.autoencoder_steps})
        first = self.autoencoder.fit(
            train, training=budget, checkpoints=folder, callbacks=[renamed(hear) for hear in callbacks], **options
        )
        self.network.frozen = (self.autoencoder.network,)
        # One process computes them for all, so that no two differ in a last digit.
        self.network.standardise(distributed.from_leader(lambda: self._codes(train)))
        history = super().learn(train, training, checkpoints=checkpoints, callbacks=callbacks, **options)
        self.autoencoder.network.cpu()
        # Only the network's checkpoints stay until the model is saved: the autoencoder is quick to train again.
        if folder:
            distributed.from_leader(lambda: checkpoint.clear(folder))
        first.replay(renamed(history.add))
        history.facts["seconds"] += first.facts["seconds"]
        history.facts["autoencoder_steps"] = first.facts["steps"]
        return history

    @torch.inference_mode()
    def _codes(self, data: ImageSet) -> Tensor:
        parts = torch.split(torch.from_numpy(data.images), CHUNK)
        return torch.cat([self.network.encode(to_float(part), Noise(0, k)) for k, part in enumerate(parts)]).clone()

    @torch.inference_mode()
    def _decoder_sigma(self, train: ImageSet) -> float:
        """Return the deviation of p(x₀ | x₁) that makes training images likeliest, from a grid.

        Ho et al. (2020) take √β₁, which is far too wide for pixels that are known for certain, such as a background's.
        """
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), CHUNK)).astype(np.int64))
        x0, level = to_float(torch.from_numpy(some.images)), self._process.at(torch.ones(()))
        y = torch.from_numpy(some.labels) if self.conditional and some.labels is not None else None
        mean = self.denoiser(y, guidance=1.0)(noised(x0, level, Noise(0).normal(*x0.shape)), level)
        sigmas = np.geomspace(2e-4, 0.5, 60)
        return float(max(sigmas, key=lambda sigma: float(elbo.decoder_log_prob(x0, mean, sigma).mean())))

    @property
    def _process(self) -> DDPM:
        process = self.config.build_formulation()
        if self.likelihood is None or not isinstance(process, DDPM):
            raise SimulacraError("diffusion has a likelihood as ddpm in pixel space only; set model.formulation: ddpm")
        return process

    def denoiser(self, y: Tensor | None, *, guidance: float | None = None) -> Denoise:
        """Return the denoiser of states of these classes or captions, (n,), guided and clipped as configured.

        Args:
            y: indices of classes, or of captions where there are any; None for a model without classes.
            guidance: instead of the configured one.
        """
        classes = self.network.classes
        if classes is None or y is None:
            denoise = self.network.denoiser(None)
        else:
            scale = self.config.guidance if guidance is None else guidance
            named, null = (self.network.denoiser(classes(labels)) for labels in (y, classes.null(len(y))))
            denoise = guided(named, null, scale)
        return clipped(denoise) if self.config.clip and self.config.space == "pixel" else denoise

    def levels(self, steps: int | None = None) -> list[Level]:
        """Return the levels that the configured sampler takes in so many steps; by default the configured ones."""
        steps = steps or self.config.sampler_steps
        return self.network.formulation.levels(self.levels_a_step * steps, self.config.spacing)

    @property
    def levels_a_step(self) -> int:
        """Levels that the configured sampler goes down in one step."""
        return 2 if self.config.sampler == "midpoint" else 1

    def n_states(self) -> int:
        """Count the states that the configured sampler passes through; to `midpoint` every second level is none."""
        n_levels = len(self.levels())
        return n_levels // 2 if self.config.sampler == "midpoint" else n_levels - 1

    def trajectory(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], *, normal: Normal) -> Iterator[State]:
        """Return the configured sampler's states from any state at the first of any levels.

        Args:
            denoise: gives x̂₀.
            x: the state, (n, …).
            levels: from noisy to clean.
            normal: where noise is drawn from by samplers that need more than the first state.
        """
        if self.config.sampler == "ancestral":
            return samplers.ancestral(denoise, x, levels, normal=normal)
        if self.config.sampler == "sde_dpm_solver":
            return samplers.sde_dpm_solver(denoise, x, levels, normal=normal)
        if self.config.sampler == "ddim":
            return samplers.ddim(denoise, x, levels, normal=normal, eta=self.config.eta)
        return DETERMINISTIC[self.config.sampler](denoise, x, levels)

    @contextmanager
    def ready(self) -> Iterator[torch.device]:
        """Lend the network to the quickest device, in its quickest arithmetic, for work without gradients."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = resolve_precision("auto", device, self.network)
        self.network.to(device).to(memory_format=torch.channels_last)
        try:
            with torch.inference_mode(), autocast(precision, device):
                yield device
        finally:
            for network in (self.network, *self.network.frozen):
                network.cpu().to(memory_format=torch.contiguous_format)

    def sample(self, n: int, *, condition: Condition = None, seed: int, film: Film | None = None) -> ImageSet:
        """Draw noise and undo it by the configured sampler; images of prompts are labelled with the class named.

        Args:
            n: how many.
            condition: what of; see `choose_captions`.
            seed: decides the noise.
            film: keeps what the first images look like on the way; it changes none of them.
        """
        chosen = self.choose_captions(n, condition, np.random.default_rng(seed))
        noise, images = Noise(seed), np.empty((n, *self.shape), np.uint8)
        with self.ready() as device, sampling(self.n_states() * math.ceil(n / CHUNK)) as progress:
            for start in range(0, n, CHUNK):
                y = torch.from_numpy(chosen[start : start + CHUNK]).to(device)
                x = self.levels()[0].sigma * noise.normal(len(y), *self.network.shape).to(device)
                states = self.trajectory(self.denoiser(y), x, self.levels(), normal=noise.normal)
                states = progress.over(states)
                if film and not start:
                    states = film.watch(x, self.levels()[0], states, n_steps=self.n_states(), picture=self._pixels)
                images[start : start + CHUNK] = self._pixels(final(x, states))
        return self.labelled(images, chosen % max(1, len(self.class_names)))

    def _pixels(self, x: Tensor) -> NDArray[np.uint8]:
        return to_uint8(self.network.decode(x).float()).cpu().numpy()

    def choose_captions(self, n: int, condition: Condition, rng: np.random.Generator) -> Integers:
        """Turn a condition into one index of a class or caption a sample, (n,); modulo the classes it is the class.

        A prompt that names no class is of classes as frequent as in the training data.

        Raises:
            SimulacraError: as `choose_classes`, for prompts with words that this model does not know, and for other
                than n prompts.
        """
        prompts, captions = prompts_in(condition), self.captions
        if captions is None or not prompts:
            return super().choose_classes(n, condition, rng)
        if isinstance(condition, Prompt):
            prompts *= n
        if len(prompts) != n:
            raise SimulacraError(f"{len(prompts)} prompts cannot be shared out to {n} samples; give one for each")
        classes, readings = super().choose_classes(n, None, rng), {text: captions.read(text) for (text,) in prompts}
        asked = (readings[text] for (text,) in prompts)
        found = [
            captions.index(drawn if label is None else label, sides)
            for drawn, (label, sides) in zip(classes, asked, strict=True)
        ]
        return np.array(found, np.int64)

    def choose_classes(self, n: int, condition: Condition, rng: np.random.Generator) -> Integers:
        """Turn a condition into one class index a sample; a prompt's words beside the class are passed over."""
        return self.choose_captions(n, condition, rng) % max(1, len(self.class_names))

    def elbo(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return a lower bound on log p(x) in nats per image, (n,), a conditional model's classes summed out.

        Of the sum of equation 5 of Ho et al. (2020) the first and the last term are whole; the rest is estimated,
        without bias, from `elbo_evaluations` times an image. Single images' numbers are noisy, their mean is not.
        """
        return np.asarray(np.logaddexp.reduce(self.joint(images, seed=seed, importance_samples=importance_samples), 1))

    def joint(self, images: NDArray[np.uint8], *, seed: int = 0, importance_samples: int = 1) -> Array:
        """Return a lower bound on log p(x, y) in nats, (n, classes); (n, 1) without classes.

        The draws are estimates of the bound, not importance weights: they are averaged as they are, since the logarithm
        of their likelihoods' mean would be no bound.

        Args:
            images: (n, channels, height, width).
            seed: decides times and noise.
            importance_samples: how many estimates to average.

        Raises:
            SimulacraError: for a formulation without likelihood.
        """
        draws, chunks = importance_samples, np.split(images, range(CHUNK, len(images), CHUNK))
        return np.concatenate(
            [
                self._bound_of(chunk, [Noise(seed, number * draws + draw) for draw in range(draws)])
                for number, chunk in enumerate(chunks)
            ]
        )

    def _bound_of(self, images: NDArray[np.uint8], noises: Sequence[Noise]) -> Array:
        """Return the bound of one chunk of images, (n, classes), averaged over some estimates."""
        process = self._process
        with self.ready() as device:
            return self._bound(process, to_float(torch.from_numpy(images)).to(device), noises).numpy()

    def _bound(self, process: DDPM, x0: Tensor, noises: Sequence[Noise]) -> Tensor:
        classes: Sequence[int | None] = range(len(self.class_names)) if self.conditional else [None]
        labels = [None if label is None else torch.full((len(x0),), label, device=x0.device) for label in classes]
        denoisers = [self.denoiser(y, guidance=1.0) for y in labels]
        options: dict[str, Any] = {"sigma": self.network.decoder_sigma, "signal": SIGNAL}
        options["draws"] = self.config.elbo_evaluations // 2
        parts = [
            elbo.terms(denoisers, x0, process, normal=noise.normal, uniform=noise.uniform, **options)
            for noise in noises
        ]
        outer, inner = torch.stack([part[0] for part in parts]).mean(0), torch.cat([part[1] for part in parts])
        frequencies = self.class_frequencies if self.conditional else np.ones(1)
        return elbo.summed_out(outer, inner, torch.from_numpy(frequencies).log())

    def n_parameters(self) -> int:
        """Count the trainable numbers, the autoencoder's among them."""
        return super().n_parameters() + (self.autoencoder.n_parameters() if self.network.frozen else 0)

    def tensors(self) -> Arrays:
        """Return the network's state, and the autoencoder's."""
        found = super().tensors()
        if self.network.frozen:
            found |= {f"{AUTOENCODER_FOLDER}.{key}": value for key, value in self.autoencoder.tensors().items()}
        return found

    def restore(self, tensors: Arrays) -> None:
        """Rebuild the network, and the autoencoder where there is one."""
        prefix = f"{AUTOENCODER_FOLDER}."
        super().restore({key: value for key, value in tensors.items() if not key.startswith(prefix)})
        if self.config.space == "latent":
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            self.autoencoder.restore(own)
            self.network.frozen = (self.autoencoder.network,)

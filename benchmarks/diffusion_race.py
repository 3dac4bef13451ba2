"""Diffusion beside its peers at equal wall-clock: Fashion-MNIST without classes, networks of 2.7 million parameters.

Run from the project's root, on an otherwise quiet machine:

    pip install denoising-diffusion-pytorch diffusers
    python benchmarks/diffusion_race.py [--minutes 10] [--seeds 0 1] [--samples 1000] [--ancestral 1000]

All train in turns, a slice each, so that a busy minute hits all. Time counts while a contender trains: ours with its
own loop, settings and precision; the peers in float32, as they are shipped, with Adam, averaged weights, and ten times
their scripts' learning rate of 1e-4, which gets nowhere in so short a training. Ours is sampled in 20 steps,
lucidrains' by DDIM and diffusers' by DPM-Solver++ in `--peer-steps`. All samples are judged by one classifier of the
training split against the test split.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from simulacra.augmentation.classifiers import fit_classifier
from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.config import SplitConfig
from simulacra.data.image_set import ImageSet
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.experiments import ExperimentConfigLoader, project_root
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.judge import CLASSES, Judge
from simulacra.models.diffusion import Diffusion, DiffusionConfig
from simulacra.pipelines.config import SourceConfig
from simulacra.settings import CONFIG_LOADER_ARGS
from simulacra.training.batches import to_float, to_uint8
from simulacra.training.config import TrainingConfig

BATCH, RATE, CHUNK, TIMESTEPS = 64, 1e-3, 50, 1000
PACED = (50, 200)  # the steps between which the pace is taken
CONFIG = DiffusionConfig(
    conditional=False, width=96, guidance=1.0, sampler="dpm_solver", spacing="karras", sampler_steps=20, clip=False
)
TRAINING = TrainingConfig(batch_size=BATCH, learning_rate=0.002, warmup_steps=50, ema_decay=0.995, log_every=5)

Pixels = NDArray[np.uint8]


class Peer:
    """A network of others that trains step by step on its own clock.

    Args:
        name: of its row.
        net: the network.
        loss: of a batch of images in [-1, 1].
        sample: n images in [-1, 1] by averaged weights.
        data: training images.
        seed: decides weights and batches.
    """

    def __init__(
        self,
        name: str,
        net: nn.Module,
        loss: Callable[[nn.Module, Tensor], Tensor],
        sample: Callable[[nn.Module, int], Tensor],
        data: Pixels,
        seed: int,
    ) -> None:
        self.name, self.net, self.loss, self.draw = name, net, loss, sample
        self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.995))
        self.optimizer = torch.optim.Adam(net.parameters(), RATE, betas=(0.9, 0.99), fused=True)
        self.data, self.rng = data, np.random.default_rng(seed)
        self.seconds, self.steps = 0.0, 0

    def train(self, seconds: float) -> None:
        """Train for about so long."""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            x = to_float(torch.from_numpy(self.data[self.rng.integers(len(self.data), size=BATCH)]))
            loss = self.loss(self.net, x)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            self.average.update_parameters(self.net)
            self.steps += 1
        self.seconds += time.perf_counter() - began

    @torch.inference_mode()
    def sample(self, n: int) -> Pixels:
        """Return n images by the averaged weights."""
        parts = [self.draw(self.average.module, min(CHUNK, n - start)) for start in range(0, n, CHUNK)]
        return to_uint8(torch.cat(parts)).numpy()


def lucidrains(data: Pixels, seed: int, steps: int) -> Peer:
    """Return lucidrains' U-Net and process."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"image_size": data.shape[-1], "auto_normalize": False, "timesteps": TIMESTEPS}
    process = GaussianDiffusion(
        Unet(32, dim_mults=(1, 2, 4), channels=data.shape[1]), sampling_timesteps=steps, **options
    )
    return Peer("lucidrains", process, lambda net, x: net(x), lambda net, n: net.sample(n), data, seed)


def diffusers(data: Pixels, seed: int, steps: int) -> Peer:
    """Return diffusers' U-Net, trained as its script for unconditional images does."""
    torch.manual_seed(seed)
    net = UNet2DModel(
        sample_size=data.shape[-1],
        in_channels=data.shape[1],
        out_channels=data.shape[1],
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(TIMESTEPS)

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        noise, times = torch.randn_like(x), torch.randint(0, TIMESTEPS, (len(x),))
        return F.mse_loss(net(scheduler.add_noise(x, noise, times), times).sample, noise)

    def sample(net: nn.Module, n: int) -> Tensor:
        solver = DPMSolverMultistepScheduler.from_config(scheduler.config)
        solver.set_timesteps(steps)
        x = torch.randn(n, *data.shape[1:])
        for at in solver.timesteps:
            x = solver.step(net(x, at).sample, at, x).prev_sample
        return x

    return Peer("diffusers", net, loss, sample, data, seed)


def seconds_per_step(images: ImageSet, seed: int) -> float:
    """Return what a step of ours takes, once the first ones are over."""
    clock: list[float] = []
    training = TRAINING.model_copy(update={"steps": PACED[1]})

    def note(step: int, split: str, values: Mapping[str, float]) -> None:
        if step in PACED:
            clock.append(time.perf_counter())

    Diffusion(CONFIG).fit(images, training=training, seed=seed, callbacks=[note])
    return (clock[-1] - clock[0]) / (PACED[1] - PACED[0])


def race(train: ImageSet, peers: list[Peer], minutes: float, seed: int, slice_seconds: float) -> Diffusion:
    """Train ours and the peers in turns, so many minutes each; return ours."""
    images = ImageSet(train.images)
    steps = max(1, round(60 * minutes / seconds_per_step(images, seed)))
    began, lent, turn = time.perf_counter(), 0.0, [1]

    def take_turns(step: int, split: str, values: Mapping[str, float]) -> None:
        nonlocal lent
        if time.perf_counter() - began - lent < slice_seconds * turn[0]:
            return
        stopped = time.perf_counter()
        for peer in peers:
            peer.train(slice_seconds)
        lent, turn[0] = lent + time.perf_counter() - stopped, turn[0] + 1

    model = Diffusion(CONFIG)
    model.fit(images, training=TRAINING.model_copy(update={"steps": steps}), seed=seed, callbacks=[take_turns])
    seconds = time.perf_counter() - began - lent
    # The pace of the first steps told how many steps ours would make; a busy machine takes longer for them.
    for peer in peers:
        peer.train(max(0.0, seconds - peer.seconds))
    print(f"seed {seed}: ours {steps} steps, all {seconds:.0f} s", flush=True)
    return model


def sampled(model: Diffusion, peers: list[Peer], n: int, ancestral: int, seed: int) -> Iterator[tuple[str, Pixels]]:
    """Yield the samples of all, and those of ours by ancestral sampling in so many steps; 0 for none."""
    yield "ours, 20 steps", model.sample(n, seed=seed).images
    for peer in peers:
        yield f"{peer.name}, {peer.steps} training steps", peer.sample(n)
    if ancestral:
        slow = deepcopy(model)
        changed = {"sampler": "ancestral", "spacing": "time", "sampler_steps": ancestral}
        slow.config = model.config.model_copy(update=changed)
        yield f"ours, ancestral, {ancestral} steps", slow.sample(n, seed=seed).images


def main() -> None:
    """Race, and print one line a contender and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--peer-steps", type=int, default=50)
    parser.add_argument("--ancestral", type=int, default=0)
    parser.add_argument("--slice", type=float, default=30, help="seconds of a turn")
    options = parser.parse_args()
    loader = ExperimentConfigLoader(str(project_root() / "conf"), env="base", **CONFIG_LOADER_ARGS)
    parameters = dict(loader["parameters"])["fashion_mnist"]
    images, _ = load_images(SourceConfig.model_validate(parameters["source"]).root)
    parts = stratified_split(images, SplitConfig.model_validate(parameters["split"]))
    config = ClassifierConfig.model_validate(parameters["evaluation"]["classifier"])
    classifier, _ = fit_classifier(parts.train, config, seed=0)
    extractor = NetworkExtractor(classifier.network, name=CLASSES, channels=1)
    judge = Judge([extractor], parts.validation, parts.test, n_generated=options.samples, neighbours=5)
    for seed in options.seeds:
        peers = [make(parts.train.images, seed, options.peer_steps) for make in (lucidrains, diffusers)]
        model = race(parts.train, peers, options.minutes, seed, options.slice)
        for name, found in sampled(model, peers, options.samples, options.ancestral, seed):
            measured = judge.compare(judge.reference, ImageSet(found))
            figures = ", ".join(f"{key} {measured[key]:.3f}" for key in ("fd_classifier", "precision", "recall"))
            print(f"seed {seed}: {name}: {figures}", flush=True)


if __name__ == "__main__":
    main()

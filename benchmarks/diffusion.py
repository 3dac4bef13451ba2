"""Training steps and sampling evaluations of the diffusion U-Net beside its peers', interleaved in one run.

    pip install denoising-diffusion-pytorch diffusers
    python benchmarks/diffusion.py [--rounds 9] [--batch 64] [--size 32] [--compile]

All have about 2.7 million parameters and see the same images of 32×32 in three channels. A training step is forward,
backward and a step of fused AdamW; a sampling evaluation is one forward pass without gradients. The peers compute in
float32, as they are shipped; ours in float32 and as the training loop would on this machine, once with squares of 2×2
pixels as one, as in conf/base, and once pixel by pixel, as in conf/gpu. A round times every contender once, so that a
busy minute hits all; ratios are of medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.models.diffusion import DiffusionConfig, DiffusionNetwork
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.device import autocast, place
from simulacra.training.noise import Noise

CHANNELS = 3
SQUARES = DiffusionConfig(width=96, multipliers=(1, 2), patch=2)
PIXELS = DiffusionConfig(width=48, multipliers=(1, 2, 4), patch=1)

Work = Callable[[], None]


def works(model: nn.Module, loss: Callable[[], Tensor], answer: Callable[[], Tensor], precision: str) -> list[Work]:
    """Return one training step and one sampling evaluation."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        with autocast(precision, torch.device("cpu")):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def evaluate() -> None:
        with torch.inference_mode(), autocast(precision, torch.device("cpu")):
            answer()

    return [step, evaluate]


def ours(
    config: DiffusionConfig, x: Tensor, training: TrainingConfig, *, compiled: bool
) -> tuple[nn.Module, list[Work]]:
    """Return our network, and its work in the precision and memory format that the loop would choose."""
    network = DiffusionNetwork(config, tuple(x.shape[1:]), n_classes=0)  # type: ignore[arg-type]
    _, precision = place(network, training)
    clock, batch = torch.rand(len(x)), Batch(x, None, 0, Noise(0))
    loss = torch.compile(lambda: network.loss(batch)["loss"]) if compiled else lambda: network.loss(batch)["loss"]
    return network, works(network, loss, lambda: network.net(x, clock), precision)


def lucidrains(x: Tensor) -> tuple[nn.Module, list[Work]]:
    """Return the peer's network and its work."""
    net = Unet(32, dim_mults=(1, 2, 4), channels=CHANNELS)
    process = GaussianDiffusion(net, image_size=x.shape[-1], auto_normalize=False)
    times = torch.randint(0, 1000, (len(x),))
    return net, works(net, lambda: process(x), lambda: net(x, times), "fp32")


def diffusers(x: Tensor) -> tuple[nn.Module, list[Work]]:
    """Return the peer's network and its work."""
    net = UNet2DModel(
        sample_size=x.shape[-1],
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(1000)

    def loss() -> Tensor:
        noise, times = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
        return F.mse_loss(net(scheduler.add_noise(x, noise, times), times).sample, noise)

    times = torch.randint(0, 1000, (len(x),))
    return net, works(net, loss, lambda: net(x, times).sample, "fp32")


def contenders(x: Tensor, *, compiled: bool) -> dict[str, tuple[nn.Module, list[Work]]]:
    """Return all networks by name, with their training step and sampling evaluation."""
    auto = TrainingConfig(device="cpu")
    plain = TrainingConfig(device="cpu", precision="fp32", channels_last=False)
    found = {
        "ours, squares": ours(SQUARES, x, auto, compiled=False),
        "ours, pixels": ours(PIXELS, x, auto, compiled=False),
        "ours, squares, fp32": ours(SQUARES, x, plain, compiled=False),
        "lucidrains": lucidrains(x),
        "diffusers": diffusers(x),
    }
    return found | ({"ours, squares, compiled": ours(SQUARES, x, auto, compiled=True)} if compiled else {})


def seconds(work: Work) -> float:
    """Return the seconds that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def race(entrants: dict[str, tuple[nn.Module, list[Work]]], rounds: int) -> None:
    """Time every contender once a round, after a first time that does not count, and print medians and ratios."""
    times: dict[str, list[list[float]]] = {name: [[], []] for name in entrants}
    for number in range(rounds + 1):
        for name, (_, both) in entrants.items():
            for kind, work in enumerate(both):
                spent = seconds(work)
                if number:
                    times[name][kind].append(spent)
    medians = {name: [1000 * statistics.median(spent) for spent in both] for name, both in times.items()}
    print("| | parameters | step, ms | × lucidrains | × diffusers | evaluation, ms | × lucidrains | × diffusers |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (net, _) in entrants.items():
        cells = [name, f"{sum(parameter.numel() for parameter in net.parameters()):,}"]
        for kind in (0, 1):
            cells.append(f"{medians[name][kind]:.1f}")
            cells += [f"{medians[peer][kind] / medians[name][kind]:.2f}" for peer in ("lucidrains", "diffusers")]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Read the options and race."""
    parser = argparse.ArgumentParser()
    for name, default in (("rounds", 9), ("batch", 64), ("size", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    x = torch.randn(options.batch, CHANNELS, options.size, options.size).clamp(-1, 1)
    race(contenders(x, compiled=options.compile), options.rounds)


if __name__ == "__main__":
    main()

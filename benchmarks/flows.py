"""Steps of RealNVP and Glow beside those of zuko and normflows, of the same architecture, interleaved in one run.

    pip install zuko normflows
    python benchmarks/flows.py [--races vectors realnvp glow] [--rounds 9] [--compile]

Each contender does the same: forward, backward, and a step of fused AdamW on the same batch. The couplings have the
same partitions, the same networks and as many parameters; on images ours have one coupling more, the learnt prior of
the first scale, and dequantise. normflows has RealNVP on vectors in two ways: halves that one network links, as ours,
and masks with a network for the scale and one for the shift. The peers compute in float32, as they are shipped; ours in
float32 and as the training loop would on this machine. A round times every contender once, so that a busy minute hits
all; ratios are of medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import normflows
import torch
import zuko
from torch import Tensor, nn

from simulacra.models.flow import FlowConfig, FlowNetwork
from simulacra.nn.flows import VectorFlow
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.device import autocast, place
from simulacra.training.noise import Noise

FEATURES, COUPLINGS, WIDTH, ROWS = 32, 8, 64, 256
"""Of the flows on vectors."""
STEPS, CHANNELS, IMAGES = 8, 64, 64
"""Of the flows on images of 28×28: couplings a level, hidden channels, batch size; two levels."""

RACES = ("vectors", "realnvp", "glow")

Step = Callable[[], None]


def stepper(model: nn.Module, loss: Callable[[], Tensor], precision: str = "fp32") -> Step:
    """Return a function that does one optimiser step."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        with autocast(precision, torch.device("cpu")):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()

    return step


def vector_contenders(compiled: bool) -> dict[str, Step]:
    """Return steps of RealNVP on vectors."""
    x = torch.randn(ROWS, FEATURES)
    theirs = zuko.flows.RealNVP(FEATURES, transforms=COUPLINGS, hidden_features=(WIDTH, WIDTH))
    half = FEATURES // 2
    layers: list[nn.Module] = []
    for _ in range(COUPLINGS):
        network = normflows.nets.MLP([half, WIDTH, WIDTH, FEATURES], init_zeros=True)
        layers += [normflows.flows.AffineCouplingBlock(network), normflows.flows.Permute(FEATURES, mode="swap")]
    others = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(FEATURES, trainable=False), layers)
    masked = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(FEATURES, trainable=False), masked_layers())
    ours = VectorFlow(FEATURES, couplings=COUPLINGS, width=WIDTH)
    log_prob = torch.compile(ours.log_prob, dynamic=False) if compiled else ours.log_prob
    return {
        "zuko": stepper(theirs, lambda: -theirs().log_prob(x).mean()),
        "normflows, halves": stepper(others, lambda: others.forward_kld(x)),
        "normflows, masks": stepper(masked, lambda: masked.forward_kld(x)),
        "ours": stepper(ours, lambda: -log_prob(x).mean()),
    }


def masked_layers() -> list[nn.Module]:
    """Return the couplings of normflows' RealNVP by masks."""
    mask = (torch.arange(FEATURES) % 2).float()
    sizes = [FEATURES, WIDTH, WIDTH, FEATURES]
    return [
        normflows.flows.MaskedAffineFlow(
            mask if number % 2 else 1 - mask,
            normflows.nets.MLP(sizes, init_zeros=True),
            normflows.nets.MLP(sizes, init_zeros=True),
        )
        for number in range(COUPLINGS)
    ]


def normflows_images(architecture: str) -> nn.Module:
    """Return normflows' RealNVP or Glow of two levels."""
    bases, flows, merges = [], [], []
    for level, (channels, side) in enumerate([(8, 7), (4, 14)]):
        blocks: list[nn.Module] = []
        for number in range(STEPS):
            if architecture == "glow":
                blocks.append(normflows.flows.GlowBlock(channels, CHANNELS, split_mode="channel", scale=True))
            else:
                network = normflows.nets.ConvNet2d((channels // 2, CHANNELS, CHANNELS, channels), (3, 1, 3))
                mode = "channel" if number % 2 else "channel_inv"
                blocks.append(normflows.flows.AffineCouplingBlock(network, split_mode=mode))
        flows.append([*blocks, normflows.flows.Squeeze()])
        if level:
            merges.append(normflows.flows.Merge())
        shape = (channels // 2 if level else channels, side, side)
        bases.append(normflows.distributions.DiagGaussian(shape))
    return normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)


def image_contenders(architecture: str, compiled: bool) -> dict[str, Step]:
    """Return steps of RealNVP or Glow on images."""
    x = torch.rand(IMAGES, 1, 28, 28) * 2 - 1
    theirs = normflows_images(architecture)
    found = {"normflows": stepper(theirs, lambda: theirs.forward_kld(x))}
    config = FlowConfig(
        architecture=architecture, levels=2, couplings=STEPS, width=CHANNELS, dense_couplings=0, logit_alpha=0.0
    )
    for wanted in ("auto",) if compiled else ("fp32", "auto"):
        network = FlowNetwork(config, (1, 28, 28), n_classes=0)
        _, precision = place(network, TrainingConfig(precision=wanted))
        loss = torch.compile(network.loss, dynamic=False) if compiled else network.loss
        noise = Noise(0)
        found[f"ours in {precision}"] = stepper(
            network, lambda loss=loss, noise=noise: loss(Batch(x, None, 0, noise))["loss"], precision
        )
    return found


def race(title: str, contenders: dict[str, Step], rounds: int, steps: int) -> None:
    """Time every contender in turn, round after round, and print medians and ratios."""
    for step in contenders.values():
        for _ in range(3):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in contenders.items():
            began = time.perf_counter()
            for _ in range(steps):
                step()
            seconds[name].append((time.perf_counter() - began) / steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{title}: milliseconds a step, median of {rounds} interleaved rounds")
    for name, value in medians.items():
        print(f"  {name:20s} {1000 * value:8.1f}")
    for peer in (name for name in medians if not name.startswith("ours")):
        for name in (name for name in medians if name.startswith("ours")):
            print(f"  {name} is {medians[peer] / medians[name]:.2f} times as fast as {peer}")


def main() -> None:
    """Race the architectures asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", nargs="+", choices=RACES, default=RACES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="build our losses by torch.compile")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, compiled: {options.compile}")
    for name in options.races:
        contenders = (
            vector_contenders(options.compile) if name == "vectors" else image_contenders(name, options.compile)
        )
        race(name, contenders, options.rounds, steps=20 if name == "vectors" else 2)


if __name__ == "__main__":
    main()

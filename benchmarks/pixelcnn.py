"""What do PixelCNN's cache and bf16 with torch.compile gain? Both sides of each ratio are measured in one run.

Run from the project's root, on an otherwise quiet machine: `python benchmarks/pixelcnn.py sampling [stride]`, where the
naive sampler works on every stride-th pixel, and `python benchmarks/pixelcnn.py training [steps]`.
"""

import itertools
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from simulacra.data.config import MnistSource, SplitConfig
from simulacra.data.image_set import ImageSet
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.experiments import project_root
from simulacra.models.pixelcnn import PixelCNN, PixelCNNConfig, PixelCNNNetwork
from simulacra.nn.masked import PixelByPixel
from simulacra.training import distributed
from simulacra.training.batches import ImageBatches
from simulacra.training.config import TrainingConfig
from simulacra.training.device import place, resolve_compile
from simulacra.training.loop import _step
from simulacra.training.noise import Noise
from simulacra.training.schedule import learning_rate_factor
from simulacra.training.seeding import seeded
from simulacra.training.state import TrainingState

IMAGES = 64
MODES: dict[str, dict[str, object]] = {
    "fp32": {"precision": "fp32", "channels_last": False, "compile": False},
    "bf16": {"precision": "bf16", "channels_last": False, "compile": False},
    "bf16, channels last": {"precision": "bf16", "channels_last": True, "compile": False},
    "bf16, compiled": {"precision": "bf16", "channels_last": False, "compile": True},
    "bf16, channels last, compiled": {"precision": "bf16", "channels_last": True, "compile": True},
}
BLOCK = 5
"""Steps of one mode between two of another."""


def defaults() -> tuple[PixelCNNConfig, TrainingConfig]:
    """Return the hyper-parameters and the budget of conf/base."""
    blocks = yaml.safe_load((project_root() / "conf/base/parameters/pixelcnn.yml").read_text())["pixelcnn"]
    shared = yaml.safe_load((project_root() / "conf/base/parameters/common.yml").read_text())["training"]
    return PixelCNNConfig.model_validate(blocks["model"]), TrainingConfig.model_validate(shared | blocks["training"])


def digits() -> tuple[ImageSet, ImageSet]:
    """Return the embedded digits' training and test split."""
    split = stratified_split(load_images(MnistSource())[0], SplitConfig())
    return split.train, split.test


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the seconds that the work takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def sampling(stride: int) -> None:
    """Train shortly, so that there are digits to draw, and compare the samplers."""
    config, training = defaults()
    model = PixelCNN(config)
    model.fit(digits()[0], training=training.model_copy(update={"steps": 100}), seed=0)
    compare_samplers(model, stride)


@torch.inference_mode()
def compare_samplers(model: PixelCNN, stride: int) -> None:
    """Compare the cached sampler with one that does a full forward pass for every pixel, in time and in every number.

    The naive pass at a pixel is given the cached sampler's pixels before it: where it draws the same pixel everywhere,
    the naive sampler draws the same images.
    """
    config, net, (_, height, width) = model.config, model.network, model.shape
    y = torch.arange(IMAGES) % len(model.class_names)
    uniform = torch.cat([Noise(0, image).uniform(1, net.head.draws, height, width) for image in range(IMAGES)])
    images = net.draw(y, uniform, config.temperature)
    kept = cached_features(net, images, y)
    cached, naive, worst, same = [], [], 0.0, True
    pixels = list(itertools.product(range(height), range(width)))[::stride]
    for number, (row, column) in enumerate(pixels):
        if number % max(1, len(pixels) // 5) == 0:  # interleaved, so that a busy minute hits both
            cached.append(timed(lambda: net.draw(y, uniform, config.temperature))[0])
        x = images.clone()
        x[:, :, row, column:], x[:, :, row + 1 :] = 0, 0
        here = (slice(None), slice(None), slice(row, row + 1), slice(column, column + 1))
        seconds, features = timed(lambda x=x: net.stack(x, y))  # type: ignore[misc]
        naive.append(seconds)
        logits = [net.head.logits(found[here], images[:, :0][here]) for found in (features, kept)]
        worst = max(worst, float((logits[0] - logits[1]).abs().max()))
        same &= torch.equal(net.head.draw(features[here], uniform[here], config.temperature), images[here])
    ratio = height * width * np.median(naive) / np.median(cached)
    print(f"{IMAGES} images of {height}×{width}: naive {height * width * np.median(naive):.0f} s", end=" ")
    print(f"({len(pixels)} of {height * width} pixels timed), cached {np.median(cached):.2f} s: {ratio:.0f} times")
    print(f"logits differ by {worst:.1e} at most; the same pixels drawn: {same}")


def cached_features(net: PixelCNNNetwork, images: Tensor, y: Tensor) -> Tensor:
    """Return the features that the cached sampler draws each pixel of these images from."""
    features = torch.empty(len(images), net.config.head_width, *images.shape[2:])
    walk = PixelByPixel(net.stack, y)
    for row, column in itertools.product(range(images.shape[2]), range(images.shape[3])):
        if column == 0:
            walk.begin_row(row)
        features[:, :, row, column] = walk.features()
        walk.put(images[:, :, row, column])
    return features


class Run:
    """One mode's training, a few steps at a time."""

    def __init__(self, mode: dict[str, object], train: ImageSet, steps: int) -> None:
        config, training = defaults()
        self.config = training.model_copy(update=mode | {"steps": steps})
        with seeded(0):
            self.network = PixelCNNNetwork(config, train.shape, train.n_classes)
        device, self.precision = place(self.network, self.config)
        self.state = TrainingState(self.network, self.config)
        self.batches = ImageBatches(train, batch_size=self.config.batch_size, seed=0, device=device)
        self.loss = distributed.shared_loss(self.network, compiled=resolve_compile(self.config, device, self.network))
        self.first, self.blocks = 0.0, list[float]()

    def advance(self) -> None:
        """Do one block of steps; the first step, which may compile, is timed apart."""
        began = time.perf_counter()
        for _ in range(BLOCK):
            rate = self.config.learning_rate * learning_rate_factor(self.config, self.state.step)
            _step(self.state, self.loss, self.batches.at(self.state.step), rate, self.precision)
            self.state.advance()
            if self.state.step == 1:
                self.first, began = time.perf_counter() - began, time.perf_counter()
        self.blocks.append((time.perf_counter() - began) / (BLOCK - (self.state.step == BLOCK)))

    def bits_per_dim(self, test: ImageSet) -> float:
        """Return the held-out bits per dimension of images whose class is known, with the averaged weights, in fp32."""
        self.state.conclude()
        with torch.inference_mode():
            held_out = ImageBatches(test, batch_size=50, seed=0)
            losses = [float(self.network.loss(batch)["bits_per_dim"]) for batch in held_out.in_order()]
        return float(np.mean(losses))


def training(steps: int) -> None:
    """Train in each mode from the same weights on the same batches, by turns."""
    train, test = digits()
    runs = {name: Run(mode, train, steps) for name, mode in MODES.items()}
    while not all(run.state.finished for run in runs.values()):
        for run in runs.values():
            run.advance()
    plain = np.array(runs["fp32"].blocks[1:])
    for name, run in runs.items():
        blocks: NDArray[np.float64] = np.array(run.blocks[1:])
        print(f"{name}: {1000 * np.median(blocks):.0f} ms a step, {np.median(plain / blocks):.2f} times", end=" ")
        print(f"plain fp32, first step {run.first:.0f} s, {run.bits_per_dim(test):.4f} bits/dim", flush=True)
    print(f"matrix tiles on this processor: {torch.cpu._is_amx_tile_supported()}")


if __name__ == "__main__":
    part, argument = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
    if part == "sampling":
        sampling(argument or 1)
    else:
        training(argument or 300)

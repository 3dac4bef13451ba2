"""Generators that collapse while they are trained: flagged soon, and healthy ones never."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import Tensor, nn

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.models.gan import GAN, GANConfig
from simulacra.sentinels.rules import Sentinel
from simulacra.sentinels.samples import SampleWatch
from simulacra.training.config import TrainingConfig

CONF = Path(__file__).resolve().parents[2] / "conf/base/parameters"
WITHIN = 200
"""Steps from a collapse to its flag, at most."""
SEEDS = range(5)
COLLAPSES = {"one image": "mode_collapse", "one class": "missing_kinds", "one image a class": "mode_collapse"}


def blocks() -> tuple[dict[str, Any], dict[str, Any]]:
    """The GAN's hyper-parameters and budget, as conf/base has them."""
    gan = yaml.safe_load((CONF / "gan.yml").read_text())["gan"]
    return gan["model"], yaml.safe_load((CONF / "common.yml").read_text())["training"] | gan["training"]


def collapse(generator: nn.Module, kind: str) -> None:
    """From now on, hand out what a generator does that has found one thing that pays."""
    if kind == "one class":
        stuck = deepcopy(generator).eval()
        # What it yields no longer follows from what it learns; the smaller noise leaves small variations.
        generator.register_forward_hook(lambda _, given, out: 0 * out + stuck(given[0] / 2, 0 * given[1]))
        return

    def without(_: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        z, y = given
        return 0 * z, 0 * y if kind == "one image" else y

    generator.register_forward_pre_hook(without)


class Seen(Exception):
    """A flag was raised, or is overdue."""


def flags(
    model: GAN, data: ImageSet, training: TrainingConfig, seed: int, kind: str = "", at: int = 0
) -> dict[str, int]:
    """Train, collapse after step `at` where a kind is given, and return the step of each flag."""
    raised: dict[str, int] = {}

    def hear(step: int, split: str, values: Mapping[str, float]) -> None:
        if split == "flags":
            raised.update(dict.fromkeys(values, step))
        if kind and split == "train" and step == at:
            collapse(model.network.generator, kind)
        if kind and (COLLAPSES[kind] in raised or step > at + WITHIN):
            raise Seen

    try:
        model.fit(data, training=training, seed=seed, callbacks=[hear])
    except Seen:
        assert kind
    return raised


def small(seed: int, kind: str = "", at: int = 0) -> dict[str, int]:
    """The same of a small dense GAN on six kinds of shapes, with the watch of conf/base."""
    model = GAN(GANConfig(architecture="mlp", latent_dim=8))
    watch = {key: value for key, value in blocks()[1].items() if key.startswith("watch")}
    budget = {"steps": 320, "batch_size": 24, "learning_rate": 1e-3, "log_every": 1, "gradient_clip": 0.0}
    return flags(model, SHAPES, TrainingConfig(**budget, **watch, ema_decay=0.99), seed, kind, at)


SHAPES = fabricate_images(n=400, size=8, channels=1, n_classes=6, seed=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", COLLAPSES)
def test_a_collapse_is_flagged_within_200_steps_whenever_it_happens(kind: str, seed: int) -> None:
    at = 81 + 13 * seed  # soon after a look at samples, long after it, or just before the next
    raised = small(seed, kind, at)
    assert at < raised[COLLAPSES[kind]] <= at + WITHIN


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_training_raises_no_flag(seed: int) -> None:
    assert small(seed) == {}


def flagged_as_they_are(watch: SampleWatch, samples: ImageSet) -> list[str]:
    return [flag.name for flag in Sentinel(grace=0).conclude(1, watch.look(samples))]


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("n_classes", [1, 2, 6])
@pytest.mark.parametrize("labelled", [True, False])
def test_real_images_are_never_flagged(n: int, n_classes: int, labelled: bool) -> None:
    data = fabricate_images(n=1200, size=10, channels=1, n_classes=n_classes, seed=0, labelled=labelled)
    watch, rng = SampleWatch(data.take(range(600)), n=n), np.random.default_rng(0)
    for _ in range(20):
        assert flagged_as_they_are(watch, data.take(600 + rng.permutation(600)[:n])) == []


def digits() -> ImageSet:
    from simulacra.data.config import MnistSource
    from simulacra.data.images import load_images

    data = load_images(MnistSource())[0]
    return data.take(np.random.default_rng(0).permutation(len(data)))


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 100, 500])
@pytest.mark.parametrize("labelled", [True, False])
def test_real_digits_are_never_flagged(n: int, labelled: bool) -> None:
    data = digits() if labelled else ImageSet(digits().images)
    watch, rng = SampleWatch(data.take(range(3000)), n=n), np.random.default_rng(0)
    for _ in range(20):
        assert flagged_as_they_are(watch, data.take(3000 + rng.permutation(len(data) - 3000)[:n])) == []


def large(seed: int, kind: str = "", at: int = 0) -> dict[str, int]:
    """The GAN of conf/base on 3,000 digits, for fewer steps."""
    model, training = blocks()
    budget = TrainingConfig.model_validate(training | {"steps": 700, "log_every": 1})
    return flags(GAN(GANConfig.model_validate(model)), digits().take(range(3000)), budget, seed, kind, at)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_on_digits_collapses_are_flagged_within_200_steps_and_a_healthy_training_is_not(seed: int) -> None:
    assert large(seed) == {}
    at = 281 + 13 * seed
    for kind, name in COLLAPSES.items():
        raised = large(seed, kind, at)
        assert at < raised[name] <= at + WITHIN, kind

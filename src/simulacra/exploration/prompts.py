"""Prompts tried out: a family that takes them is asked for many, and what it draws is measured."""

import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.captions import SIDES, TOLD, UNSAID, Captions
from simulacra.data.image_set import ImageSet
from simulacra.exploration.panels import Panel
from simulacra.metrics.prompts import prompt_fidelity
from simulacra.models.base import ImageModel, Prompt

Integers = NDArray[np.int64]
Classify = Callable[[NDArray[np.uint8]], Integers]

MEASURED = 480
"""Images that are drawn and measured, each of a prompt of its own."""
SHOWN_CLASSES, SHOWN = 3, 8
LONGEST_LINE = 17


class Tried(NamedTuple):
    """Figures by metric key, all shares with their intervals, and the table of pictures."""

    metrics: dict[str, float]
    fidelity: dict[str, Any]
    panel: Panel


def try_prompts(model: ImageModel, captions: Captions, classify: Classify, *, seed: int) -> Tried:
    """Return how faithful a model is to prompts, and pictures of some.

    Every prompt names a class, all equally often, and is silent about each attribute or says one of its three words,
    all four equally likely.

    Args:
        model: a fitted family.
        captions: the prompts that it takes.
        classify: gives the class of images.
        seed: decides prompts and images.
    """
    asked = np.arange(MEASURED) % captions.n_classes
    said = _drawn_sides(captions, np.random.default_rng(seed))
    images = _asked_for(model, captions, asked, said, seed)
    words = {word: (TOLD[place], place, side) for word, (place, side) in captions.words.items()}
    fidelity = prompt_fidelity(
        asked=asked, seen=classify(images.images), words=words, said=said, measured=captions.sides(images)
    )
    return Tried(_metrics(fidelity), fidelity, _panel(model, captions, seed))


def _drawn_sides(captions: Captions, rng: np.random.Generator) -> Integers:
    return np.where(captions.told, rng.integers(0, SIDES, (MEASURED, len(TOLD))), UNSAID)


def _asked_for(model: ImageModel, captions: Captions, labels: Integers, said: Integers, seed: int) -> ImageSet:
    """Draw one image a caption, which the model is asked for in words."""
    prompts = [
        Prompt(captions.text(captions.index(int(label), sides.tolist())))
        for label, sides in zip(labels, said, strict=True)
    ]
    return model.sample(len(prompts), condition=prompts, seed=seed)


def _metrics(fidelity: dict[str, Any]) -> dict[str, float]:
    """Return the figures that have a value."""
    named = {"prompt_class_accuracy": fidelity["classes"], "prompt_attribute_accuracy": fidelity["attributes"]}
    named |= {f"prompt_accuracy.{word}": found for word, found in fidelity["words"].items()}
    values = {key: found["value"] for key, found in named.items() if found["n"]}
    return values | {f"prompt_spearman.{name}": value for name, value in fidelity["spearman"].items()}


def _panel(model: ImageModel, captions: Captions, seed: int) -> Panel:
    """Return pictures of a few classes, all words the lowest and then all the highest."""
    classes = dict.fromkeys((2 * turn + 1) * captions.n_classes // (2 * SHOWN_CLASSES) for turn in range(SHOWN_CLASSES))
    told = np.array(captions.told)
    sides = [told * 1, told * 3] if told.any() else [told * UNSAID]
    rows = [(label, each) for label in classes for each in sides]
    labels, said = (np.repeat(np.array(column), SHOWN, axis=0) for column in zip(*rows, strict=True))
    images = _asked_for(model, captions, labels, said, seed).images
    texts = (captions.text(captions.index(label, each.tolist())) for label, each in rows)
    return Panel(
        "prompts",
        "Images drawn to order",
        "Each row is what came of one prompt, none picked by hand.",
        tuple("\n".join(textwrap.wrap(text, LONGEST_LINE)) for text in texts),
        ("",) * SHOWN,
        images.reshape(len(rows), SHOWN, *images.shape[1:]),
    )

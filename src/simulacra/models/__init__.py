"""Generative families: one file each, named as in FAMILIES."""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from simulacra.models.base import GenerativeModel


class Family(NamedTuple):
    """One family: the class in the module of the family's name, and the kinds of data that it models.

    Without importing it: `latent` says that it has codes, that is `encode` and `decode`, `denoises` that it undoes
    noise, so that it can be filmed and can edit images, and `prompts` that it can be asked in words. `needs` are
    modules that an extra brings.
    """

    class_name: str
    kinds: frozenset[str]
    latent: bool = False
    denoises: bool = False
    prompts: bool = False
    extra: str = ""
    needs: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "autoencoder": Family("Autoencoder", frozenset({"image"}), latent=True),
    "diffusion": Family("Diffusion", frozenset({"image"}), denoises=True, prompts=True),
    "flow": Family("NormalizingFlow", frozenset({"image"}), latent=True),
    "gan": Family("GAN", frozenset({"image"})),
    "gmm": Family("GaussianMixture", frozenset({"image"})),
    "gpt": Family("GPT", frozenset({"text"})),
    "naive_bayes": Family("NaiveBayes", frozenset({"image"})),
    "pixelcnn": Family("PixelCNN", frozenset({"image"})),
    "pretrained": Family("Pretrained", frozenset({"text"}), extra="text", needs=("transformers", "peft")),
    "vae": Family("VAE", frozenset({"image"}), latent=True),
}

ASKED_OF_ALL = ("n", "classes", "seed")
"""Keys of the block `sampling` that every family has."""


def family_class(name: str) -> "type[GenerativeModel[Any]]":
    """Return the class of a family; its module, and torch with it, is imported only now.

    Raises:
        SimulacraError: for a name that FAMILIES does not hold.
    """
    if name not in FAMILIES:
        raise SimulacraError(f"unknown family {name!r}; there are {', '.join(sorted(FAMILIES))}")
    loaded: type[GenerativeModel[Any]] = getattr(import_module(f"{__name__}.{name}"), FAMILIES[name].class_name)
    return loaded


def load_model(folder: Path) -> "GenerativeModel[Any]":
    """Return the fitted model in a folder, of the family that its `model.json` says."""
    return family_class(json.loads((folder / "model.json").read_text())["family"]).load(folder)


def missing(family: str) -> str:
    """Return in a sentence what a family needs and is not installed; empty where nothing is."""
    facts = FAMILIES[family]
    modules = [module for module in facts.needs if find_spec(module) is None]
    if not modules:
        return ""
    return (
        f"the family {family} needs {' and '.join(modules)}, which the extra {facts.extra} brings: run "
        f'`pip install -c requirements.lock -e ".[{facts.extra}]"`'
    )


def refuse_missing(family: str) -> None:
    """Refuse a family that needs what is not installed.

    Raises:
        SimulacraError: which names the extra that brings it.
    """
    if reason := missing(family):
        raise SimulacraError(reason)

"""Draw several independent sets of texts to be judged, and what a reader asks for."""

import time
from collections.abc import Sequence
from typing import Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import LanguageModel, TextSamplingConfig
from simulacra.pipelines.config import LanguageConfig, TextFamilyConfig
from simulacra.pipelines.generate.nodes import sample_seeds


@skippable
def generate_texts(
    model: LanguageModel, language: LanguageConfig, seed: int
) -> tuple[list[list[str]], dict[str, Any], dict[str, Any]]:
    """Return the texts of each seed, a record of the seeds, and what they cost."""
    seeds = sample_seeds(seed, language.n_seeds)
    began = time.perf_counter()
    texts = generated(model, language, seeds, model.name)
    elapsed = time.perf_counter() - began
    record = {"n": language.n, "tokens": language.tokens, "seeds": seeds, "model_sha256": model.fingerprint()}
    return texts, record, {"sample_ms": 1000 * elapsed / (language.n * len(seeds))}


def generated(model: LanguageModel, language: LanguageConfig, seeds: Sequence[int], whose: str) -> list[list[str]]:
    """Return the texts of each seed that a family is judged by, and say whose they are while they are drawn."""
    from simulacra.training.progress import announced

    with announced(f"{whose}, samples"):
        return [model.sample(language.n, prompt=language.prompt, tokens=language.tokens, seed=each) for each in seeds]


@skippable
def draw_texts(
    model: LanguageModel, config: TextFamilyConfig, sampling: TextSamplingConfig
) -> tuple[str, dict[str, Any]]:
    """Return what was asked for as one text, and a record of how it was drawn."""
    from simulacra.training.progress import announced

    with announced(f"{config.family}, drawing"):
        return asked_for(model, sampling)


def asked_for(model: LanguageModel, sampling: TextSamplingConfig) -> tuple[str, dict[str, Any]]:
    """Return what a block `sampling` asks of a model, as one text, and a record of how it was drawn."""
    asked = model.asked(sampling.options)
    how: dict[str, Any] = {"prompt": sampling.prompt, "tokens": sampling.tokens, "seed": sampling.seed}
    drawn = asked.sample(sampling.n, stop=sampling.stops, **how)
    options = {option: getattr(asked.config, field) for option, field in asked.sampling_options.items()}
    record = {"n": sampling.n, **how, "stop": sampling.stops, "options": options, "texts": drawn}
    return told(drawn), record | {"model_sha256": model.fingerprint()}


def told(texts: list[str]) -> str:
    """Return texts one after the other, each under its number."""
    return "\n\n".join(f"--- {number} ---\n{text}" for number, text in enumerate(texts)) + "\n"

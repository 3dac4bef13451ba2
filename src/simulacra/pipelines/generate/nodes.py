"""Draw several independent sets of samples, and show the first."""

import time
from typing import Any

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import Figure, GenerativeModel, ImageSet
from simulacra.pipelines.config import GenerationConfig


def sample_seeds(seed: int, n_seeds: int) -> list[int]:
    """Return the seeds of the sample sets, apart from those of any other run seed."""
    return [seed * 1000 + repetition for repetition in range(n_seeds)]


@skippable
def generate(
    model: GenerativeModel, generation: GenerationConfig, seed: int
) -> tuple[ImageSet, dict[str, Any], dict[str, Any]]:
    """Return all samples in the order of their seeds, a record of the seeds, and what they cost."""
    from simulacra.data.image_set import join

    seeds = sample_seeds(seed, generation.n_seeds)
    began = time.perf_counter()
    samples = join((model.sample(generation.n, seed=each) for each in seeds), generation.n * len(seeds))
    elapsed = time.perf_counter() - began
    record = {"n": generation.n, "seeds": seeds, "sha256": samples.fingerprint(), "model_sha256": model.fingerprint()}
    return samples, record, {"sample_ms": 1000 * elapsed / len(samples)}


@skippable
def plot_samples(samples: ImageSet) -> Figure:
    """Draw a grid of samples, by class where they have classes."""
    from simulacra.plotting import sample_grid

    return sample_grid(samples)

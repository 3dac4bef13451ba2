"""Draw several independent sets of samples and show the first; draw what a reader asks for."""

import time
from typing import TYPE_CHECKING, Any, cast

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import Figure, ImageModel, ImageSet, SamplingConfig
from simulacra.pipelines.config import FamilyConfig, GenerationConfig

if TYPE_CHECKING:
    from simulacra.diffusion.film import Film
    from simulacra.exploration.panels import Panel
    from simulacra.models.base import Condition
    from simulacra.models.diffusion import Diffusion


def sample_seeds(seed: int, n_seeds: int) -> list[int]:
    """Return the seeds of the sample sets, apart from those of any other run seed."""
    return [seed * 1000 + repetition for repetition in range(n_seeds)]


@skippable
def generate(
    model: ImageModel, generation: GenerationConfig, seed: int
) -> tuple[ImageSet, dict[str, Any], dict[str, Any]]:
    """Return all samples in the order of their seeds, a record of the seeds, and what they cost."""
    from simulacra.data.image_set import join
    from simulacra.training.progress import announced

    seeds = sample_seeds(seed, generation.n_seeds)
    began = time.perf_counter()
    with announced(f"{model.name}, samples"):
        samples = join((model.sample(generation.n, seed=each) for each in seeds), generation.n * len(seeds))
    elapsed = time.perf_counter() - began
    record = {"n": generation.n, "seeds": seeds, "sha256": samples.fingerprint(), "model_sha256": model.fingerprint()}
    return samples, record, {"sample_ms": 1000 * elapsed / len(samples)}


@skippable
def plot_samples(samples: ImageSet) -> Figure:
    """Draw a grid of samples, by class where they have classes."""
    from simulacra.plotting import sample_grid

    return sample_grid(samples)


@skippable
def draw(
    model: ImageModel, config: FamilyConfig, sampling: SamplingConfig
) -> tuple[ImageSet, ImageSet, dict[str, Any]]:
    """Return what was asked for, twice: for later nodes and as pictures; and a record of how it was drawn."""
    from simulacra.training.progress import announced

    asked = model.asked(sampling.options)
    with announced(f"{config.family}, drawing"):
        drawn = asked.sample(sampling.n, condition=condition_of(asked, sampling), seed=sampling.seed)
    return drawn, drawn, drawing_record(asked, sampling, drawn)


@skippable
def draw_filmed(
    model: ImageModel, config: FamilyConfig, sampling: SamplingConfig
) -> tuple[ImageSet, ImageSet, dict[str, Any], ImageSet]:
    """Return what `draw` does, and the pixels of a film of the first images' way from noise.

    The film's words are in the record.
    """
    from simulacra.diffusion.film import Film
    from simulacra.exploration.panels import pack
    from simulacra.training.progress import announced

    asked, film = cast("Diffusion", model.asked(sampling.options)), Film()
    with announced(f"{config.family}, drawing"):
        drawn = asked.sample(sampling.n, condition=condition_of(asked, sampling), seed=sampling.seed, film=film)
    pixels, words = pack(_panels(film, drawn), drawn.shape)
    return drawn, drawn, drawing_record(asked, sampling, drawn) | {"film": words}, pixels


@skippable
def plot_drawn(drawn: ImageSet) -> Figure:
    """Draw a grid of what was asked for."""
    from simulacra.plotting import drawing_grid

    return drawing_grid(drawn)


@skippable
def plot_film(drawing_record: dict[str, Any], film: ImageSet) -> tuple[Figure, Any]:
    """Return the film as one picture, and as the frames of an animation."""
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import film_frames, picture_table

    shown = unpack(drawing_record["film"], film)
    return picture_table(shown), film_frames(shown)


def condition_of(model: ImageModel, sampling: SamplingConfig) -> "Condition":
    """Return the condition that a sampling block asks for: a prompt, a class each, or none."""
    import numpy as np

    from simulacra.models.base import Prompt

    if sampling.prompt is not None:
        return Prompt(sampling.prompt)
    return None if sampling.classes is None else np.resize(model.find_classes(sampling.classes), sampling.n)


def drawing_record(model: ImageModel, sampling: SamplingConfig, drawn: ImageSet) -> dict[str, Any]:
    """Return what was asked for, with the model's own options where nothing was, and what came of it."""
    options = {option: getattr(model.config, field) for option, field in model.sampling_options.items()}
    return {
        **sampling.model_dump(include={"n", "classes", "prompt", "seed"}),
        "options": options,
        "class_names": list(model.class_names) if model.conditional else [],
        "sha256": drawn.fingerprint(),
        "model_sha256": model.fingerprint(),
    }


def _panels(film: "Film", drawn: ImageSet) -> "list[Panel]":
    """Return the states of a film as a table of pictures, and the estimates as another one."""
    import numpy as np

    from simulacra.exploration.panels import Panel

    n_rows = len(film.states[0])
    labels = [] if drawn.labels is None else [drawn.class_names[label] for label in drawn.labels[:n_rows]]
    columns = tuple("noise" if step == 0 else str(step) for step in film.steps)
    told = [
        ("State, by step", "What the network works on, from noise to image.", film.states),
        ("Estimate, by step", "The image that it takes each state for.", film.estimates),
    ]
    return [
        Panel("film", title, caption, tuple(labels) or ("",) * n_rows, columns, np.stack(pictures, axis=1))
        for title, caption, pictures in told
    ]

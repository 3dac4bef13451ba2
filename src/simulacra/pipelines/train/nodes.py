"""Fit one family and draw its curves."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, Figure, Former, ImageModel, ImageSet, LanguageModel, TextSet
from simulacra.pipelines.config import FamilyConfig, TextFamilyConfig

if TYPE_CHECKING:
    from simulacra.models.base import GenerativeModel
    from simulacra.training.history import History


@skippable
def fit(
    train_set: ImageSet,
    validation_set: ImageSet,
    former: Former,
    checkpoints: Path,
    config: FamilyConfig,
    seed: int,
    experiment: dict[str, Any],
) -> tuple[ImageModel, DataFrame, dict[str, Any]]:
    """Return the fitted model, its curves, and a record of what the fit cost and how to repeat it."""
    from simulacra.models import family_class
    from simulacra.sentinels.conclusion import conclude
    from simulacra.training.footprint import footprint

    family = cast("type[ImageModel]", family_class(config.family))
    model = family(family.Config.model_validate(config.model))
    if former.model is not None:
        model.begin_from(former.model)
    began = time.perf_counter()
    with footprint() as taken:
        history = model.fit(
            train_set, validation=validation_set, training=config.training, seed=seed, checkpoints=checkpoints
        )
    record = _record(model, history, config, former, seed, experiment, time.perf_counter() - began) | vars(taken)
    return model, history.frame(), record | conclude(history, model, train_set, config.training, seed)


@skippable
def fit_texts(
    train_texts: TextSet,
    validation_texts: TextSet,
    former: Former,
    checkpoints: Path,
    config: TextFamilyConfig,
    seed: int,
    experiment: dict[str, Any],
) -> tuple[LanguageModel, DataFrame, dict[str, Any]]:
    """Return what `fit` does, of a family of texts."""
    from simulacra.models import family_class
    from simulacra.sentinels.conclusion import raised
    from simulacra.training.footprint import footprint

    family = cast("type[LanguageModel]", family_class(config.family))
    model = family(family.Config.model_validate(config.model))
    if former.model is not None:
        model.begin_from(former.model)
    began = time.perf_counter()
    with footprint() as taken:
        history = model.fit(
            train_texts, validation=validation_texts, training=config.training, seed=seed, checkpoints=checkpoints
        )
    record = _record(model, history, config, former, seed, experiment, time.perf_counter() - began) | vars(taken)
    return model, history.frame(), record | {"flags": raised(history, config.training)}


def _record(
    model: "GenerativeModel[Any]",
    history: "History",
    config: FamilyConfig | TextFamilyConfig,
    former: Former,
    seed: int,
    experiment: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Return what the fit cost and how to repeat it."""
    return {
        # A training that was taken up again knows of its earlier parts.
        "train_seconds": history.facts.get("seconds", seconds),
        "parameters": model.n_parameters(),
        "seed": seed,
        "train_sha256": model.train_sha256,
        "model_sha256": model.fingerprint(),
        # The budget is of no use to a family in closed form, and would only mislead.
        "config": config.model_dump(
            mode="json", include={"model", "training"} if "steps" in history.facts else {"model"}
        ),
        "command": f"kedro run --namespaces {experiment['dataset']}.{config.family}{experiment['options']}",
        **{key: value for key, value in history.facts.items() if key != "seconds"},
        **({"begun_from_version": former.version} if "begun_from" in history.facts else {}),
    }


@skippable
def plot_curves(history: DataFrame) -> Figure:
    """Draw the training curves."""
    from simulacra.plotting import training_curves

    return training_curves(history)

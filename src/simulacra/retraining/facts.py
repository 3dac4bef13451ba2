"""What is known of a champion and of today's images when it is asked whether to train anew."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet, join
from simulacra.errors import SimulacraError
from simulacra.metrics.kernel import kernel_distance
from simulacra.retraining.drift import FEWEST, DriftReport, image_statistics, look_for_drift
from simulacra.retraining.gate import Measured
from simulacra.retraining.reasons import Decay, Drift, Facts
from simulacra.training.config import RUNTIME

if TYPE_CHECKING:
    from simulacra.models.base import ImageModel

DIGITS = 16
"""Hexadecimal digits of an image's sha256 by which it is known again: enough for a billion images."""

SIDE = 8
"""Pixels a side to which images are averaged where whole pictures are compared without a network."""

DECAY_METRIC = "kid_pixels"
DRAWN = 500
"""Samples of the champion, and real images a side, that its decay is told by, at most."""


def rows_of(images: ImageSet) -> list[str]:
    """Return by what each image is known again, whatever its label.

    Example:
        >>> rows_of(ImageSet(np.zeros((1, 1, 2, 2), np.uint8)))
        ['df3f619804a92fdb']
    """
    return [hashlib.sha256(image.tobytes()).hexdigest()[:DIGITS] for image in images.images]


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """Return the hash of a family's parameters, all of them told, but for what changes nothing that is learnt.

    Example:
        >>> settings_sha256({"training": {"resume": True}}) == settings_sha256({"training": {"resume": False}})
        True
    """
    telling = {key: value for key, value in settings.items() if key != "sampling"}
    telling["training"] = {key: value for key, value in settings.get("training", {}).items() if key not in RUNTIME}
    return hashlib.sha256(json.dumps(telling, sort_keys=True, default=str).encode()).hexdigest()


def refuse_leak(rows: Mapping[str, Sequence[str]], test: ImageSet) -> None:
    """Refuse to judge a champion by images that it was fitted to.

    Raises:
        SimulacraError: which says how many there are, and what deals images so that it does not happen.
    """
    seen = set(rows["train"]) | set(rows["validation"])
    leaked = sum(row in seen for row in rows_of(test))
    if leaked:
        raise SimulacraError(
            f"the champion was trained on {leaked:,} of today's {len(test):,} test images, so that nothing can be said "
            "of it: set split.by to content, which keeps an image where it is when others come, and begin with a first "
            "champion that was trained so"
        )


def pixel_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the images averaged to `SIDE` pixels a side and laid flat, (n, d), grey levels from 0 to 1."""
    import torch
    from torch.nn import functional as F

    parts = [torch.from_numpy(part).float() / 255 for part in np.array_split(images, max(1, len(images) // 1000))]
    side = min(SIDE, *images.shape[2:])
    pooled: NDArray[np.float64] = (
        torch.cat([F.adaptive_avg_pool2d(part, side).flatten(1) for part in parts]).double().numpy()
    )
    return pooled


def gather(
    dataset: str,
    families: Sequence[str],
    champion: str | None,
    record: Mapping[str, Any],
    model: "ImageModel | None",
    splits: Mapping[str, ImageSet],
    settings: str,
    seed: int,
) -> tuple[Facts, dict[str, Any]]:
    """Return the facts of a decision, and what the tests of drift found, fit for JSON.

    Images are fresh that the champion neither was fitted to nor was judged by. With fewer than `FEWEST` of them
    nothing is said of drift or decay.

    Args:
        dataset: its name.
        families: all of the dataset's.
        champion: family of the champion; None where there is none.
        record: what was registered with it.
        model: the champion.
        splits: today's, by name.
        settings: hash of today's parameters of the champion's family, see `settings_sha256`.
        seed: of what is drawn.
    """
    if champion is None or model is None:
        return Facts(dataset, families), {}
    rows = {name: rows_of(part) for name, part in splits.items()}
    fitted, known = set(record["rows"]["train"]), {row for part in record["rows"].values() for row in part}
    new_share = float(np.mean([row not in fitted for row in rows["train"]]))
    same_settings = record["settings_sha256"] == settings
    pool, is_fresh = join(splits.values(), sum(map(len, splits.values()))), []
    for part in rows.values():
        is_fresh += [row not in known for row in part]
    fresh, old = (pool.take(np.flatnonzero(np.array(is_fresh) == side)) for side in (True, False))
    report = decay = None
    if min(len(fresh), len(old)) >= FEWEST:
        report = _drift(old, fresh, seed)
        decay = _decay(model, old, fresh, seed)
    facts = Facts(
        dataset,
        families,
        champion=champion,
        unchanged=sorted(rows["train"]) == sorted(record["rows"]["train"]) and same_settings,
        new_share=new_share,
        drift=Drift(report.p, report.moved) if report else None,
        decay=decay,
        age_days=_age(record["promoted_at"]),
    )
    found = report.record() if report else {}
    return facts, found | {"fresh": len(fresh), "known": len(old), "settings_changed": not same_settings}


def _drift(old: ImageSet, fresh: ImageSet, seed: int) -> DriftReport:
    """Return what both tests find, of averaged pixels and of what a reader can name."""
    features = pixel_features(old.images), pixel_features(fresh.images)
    before, after = (image_statistics(part.images) for part in (old, fresh))
    return look_for_drift(before, after, features=features, seed=seed)


def _decay(model: "ImageModel", old: ImageSet, fresh: ImageSet, seed: int) -> Decay:
    """Return how far the champion's samples are from known and from fresh images, by the same samples and number."""
    n = min(DRAWN, len(old), len(fresh))
    values: dict[str, list[float]] = {"old": [], "fresh": []}
    for each in range(3):
        rng = np.random.default_rng([seed, each])
        samples = pixel_features(model.sample(n, seed=seed * 1000 + each).images)
        for name, part in (("old", old), ("fresh", fresh)):
            real = pixel_features(part.take(rng.permutation(len(part))[:n]).images)
            values[name].append(1000 * kernel_distance(real, samples))
    then, now = (Measured(float(np.mean(part)), float(np.std(part, ddof=1)), len(part)) for part in values.values())
    return Decay(DECAY_METRIC, then, now)


def _age(promoted_at: str) -> float:
    """Return how many days ago that was."""
    return (datetime.now(UTC) - datetime.fromisoformat(promoted_at)).total_seconds() / 86_400

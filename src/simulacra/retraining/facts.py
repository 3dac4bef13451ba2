"""What is known of a champion and of today's data when it is asked whether to train anew; of images all of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

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
"""Hexadecimal digits of a sha256 by which an image or a document is known again: enough for a billion."""

SIDE = 8
"""Pixels a side to which images are averaged where whole pictures are compared without a network."""

DECAY_METRIC = "kid_pixels"
DRAWN = 500
"""Samples of the champion, and real images a side, that its decay is told by, at most."""


class Hashed(Protocol):
    """Images or documents, each with its hash."""

    def digests(self) -> list[str]:
        """Return the sha256 of each, hexadecimal."""


def rows_of(data: Hashed) -> list[str]:
    """Return by what each image, whatever its label, or each document is known again.

    Example:
        >>> rows_of(ImageSet(np.zeros((1, 1, 2, 2), np.uint8)))
        ['df3f619804a92fdb']
    """
    return [digest[:DIGITS] for digest in data.digests()]


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """Return the hash of a family's parameters, all of them told, but for what changes nothing that is learnt.

    Example:
        >>> settings_sha256({"training": {"resume": True}}) == settings_sha256({"training": {"resume": False}})
        True
    """
    telling = {key: value for key, value in settings.items() if key != "sampling"}
    telling["training"] = {key: value for key, value in settings.get("training", {}).items() if key not in RUNTIME}
    return hashlib.sha256(json.dumps(telling, sort_keys=True, default=str).encode()).hexdigest()


def refuse_leak(rows: Mapping[str, Sequence[str]], test: Hashed, what: str = "image") -> None:
    """Refuse to judge a champion by images, or documents, that it was fitted to.

    Args:
        rows: those of the champion, by split.
        test: today's.
        what: one of them in a word.

    Raises:
        SimulacraError: which says how many there are, and what deals images so that it does not happen.
    """
    seen = set(rows["train"]) | set(rows["validation"])
    today = rows_of(test)
    leaked = sum(row in seen for row in today)
    if leaked:
        raise SimulacraError(
            f"the champion was trained on {leaked:,} of today's {len(today):,} test {what}s, so that nothing can be "
            f"said of it: set split.by to content, by which each {what} stays where it is when others come, and begin "
            "with a first champion that was trained so"
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
    fitted, known = seen_by(record)
    new_share = float(np.mean([row not in fitted for row in rows["train"]]))
    pool, is_fresh = join(splits.values(), sum(map(len, splits.values()))), []
    for part in rows.values():
        is_fresh += [row not in known for row in part]
    fresh, old = (pool.take(np.flatnonzero(np.array(is_fresh) == side)) for side in (True, False))
    report = decay = None
    if min(len(fresh), len(old)) >= FEWEST:
        report = _drift(old, fresh, seed)
        decay = _decay(model, old, fresh, seed)
    facts = facts_of(dataset, families, champion, record, rows["train"], settings, new_share, report, decay)
    found = report.record() if report else {}
    changed = record["settings_sha256"] != settings
    return facts, found | {"fresh": len(fresh), "known": len(old), "settings_changed": changed}


def seen_by(record: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return what a champion was fitted to, and all that it was fitted to, watched or judged by."""
    return set(record["rows"]["train"]), {row for part in record["rows"].values() for row in part}


def facts_of(
    dataset: str,
    families: Sequence[str],
    champion: str,
    record: Mapping[str, Any],
    train_rows: Sequence[str],
    settings: str,
    new_share: float,
    report: DriftReport | None,
    decay: Decay | None,
) -> Facts:
    """Return all that was found as the facts of a decision; the arguments are those of `gather`, and its findings."""
    same_settings = record["settings_sha256"] == settings
    return Facts(
        dataset,
        families,
        champion=champion,
        unchanged=sorted(train_rows) == sorted(record["rows"]["train"]) and same_settings,
        new_share=new_share,
        drift=Drift(report.p, report.moved) if report else None,
        decay=decay,
        age_days=_age(record["promoted_at"]),
    )


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

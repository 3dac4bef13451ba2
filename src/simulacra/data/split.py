"""The one split into train, validation and test that every family, metric and verdict shares."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.config import SplitConfig
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError

Rows = NDArray[np.int64]

MIN_PER_CLASS = 3  # one image each for train, validation and test


@dataclass(frozen=True)
class Split:
    """The three sets that come of a split; no image of one is pixel for pixel an image of another.

    Args:
        train: what families are fitted to.
        validation: what training may look at.
        test: what only the evaluation sees.
        config: shares and seed that made them.
        duplicates_dropped: images left out because an identical one lies in a split that must not leak.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> split = stratified_split(fabricate_images(30), SplitConfig())
        >>> len(split.train), len(split.validation), len(split.test)
        (18, 6, 6)
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    config: SplitConfig
    duplicates_dropped: int

    def record(self) -> dict[str, Any]:
        """Return what a reader needs to know the split again: counts, fingerprints, seed; fit for JSON."""
        sets = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "seed": self.config.seed,
            "by": self.config.by,
            "shares": dict(zip(sets, self.config.shares, strict=True)),
            "duplicates_dropped": self.duplicates_dropped,
            "splits": {
                name: {"n": len(part), "per_class": class_counts(part), "fingerprint": part.fingerprint()}
                for name, part in sets.items()
            },
        }


def class_counts(image_set: ImageSet) -> dict[str, int] | None:
    """Return the number of images of each class by name; None when the data carry no classes."""
    if image_set.labels is None:
        return None
    counts = np.bincount(image_set.labels, minlength=image_set.n_classes)
    return {name: int(count) for name, count in zip(image_set.class_names, counts, strict=True)}


def stratified_split(image_set: ImageSet, config: SplitConfig) -> Split:
    """Deal the images of each class to train, validation and test by seed; all of them alike when without classes.

    Each class gives each split its share to within one image, and one image at least. Then no picture may sit on both
    sides of a border, or memorisation would pass for generalisation: an image identical, pixel for pixel and whatever
    its label, to one of the test split is dropped from validation and train, and one identical to one of the
    validation split from train. Duplicates within a split stay: they are part of the distribution. Each split comes
    shuffled, so that its first rows are a fair sample of it.

    Dealt by content, an image's place hangs on its pixels and the seed alone. So it is the same whatever else the data
    hold: what a model was fitted to yesterday is no test image tomorrow. Shares are then met on average only.

    Args:
        image_set: images (n, channels, height, width), with labels or without.
        config: shares, seed and what deals.

    Returns:
        Three disjoint sets which cover the data, but for the duplicates dropped.

    Raises:
        SimulacraError: where a class is too small to appear in every split; names the class and its count.
    """
    strata = _strata(image_set)
    if config.by == "content":
        salt = config.seed.to_bytes(8, "big")
        hashes = [hashlib.sha256(salt + image.tobytes()).digest() for image in image_set.images]
        train, validation, test = deal_by_hash(hashes, config.shares)
    else:
        rng = np.random.default_rng(config.seed)
        dealt = [_deal(rng.permutation(rows), config.shares) for rows in strata]
        train, validation, test = (rng.permutation(np.concatenate(parts)) for parts in zip(*dealt, strict=True))
    digests = np.array(image_set.digests())
    kept_train = train[~np.isin(digests[train], digests[np.concatenate([validation, test])])]
    kept_validation = validation[~np.isin(digests[validation], digests[test])]
    dropped = len(train) - len(kept_train) + len(validation) - len(kept_validation)
    split = Split(
        train=image_set.take(kept_train),
        validation=image_set.take(kept_validation),
        test=image_set.take(test),
        config=config,
        duplicates_dropped=dropped,
    )
    _check_none_emptied(split)
    return split


def _strata(image_set: ImageSet) -> list[Rows]:
    """Return the rows of each class, or all rows as one stratum; refuse a stratum too small to share out."""
    counts = class_counts(image_set)
    if counts is None:
        counts = {"": len(image_set)}
    for name, count in counts.items():
        if count < MIN_PER_CLASS:
            whose = f"class {name!r}" if name else "the dataset"
            raise SimulacraError(
                f"{whose} has {count} images, and the split needs {MIN_PER_CLASS} at least, one each for train, "
                "validation and test: add images" + (" or leave the class out" if name else "")
            )
    if image_set.labels is None:
        return [np.arange(len(image_set))]
    return [np.flatnonzero(image_set.labels == label) for label in range(image_set.n_classes)]


def _deal(rows: Rows, shares: Sequence[float]) -> list[Rows]:
    """Cut the rows in as many parts as there are shares: one row each, the rest one by one to the part most in want."""
    wanted = [share * len(rows) for share in shares]
    counts = [1] * len(shares)
    for _ in range(len(rows) - len(shares)):
        neediest = max(range(len(shares)), key=lambda part: wanted[part] - counts[part])
        counts[neediest] += 1
    return np.split(rows, np.cumsum(counts)[:-1])


def deal_by_hash(hashes: Sequence[bytes], shares: Sequence[float]) -> list[Rows]:
    r"""Return the rows of each part, to which a hash of 16 bytes deals them, in an order that new rows do not change.

    Example:
        >>> [rows.tolist() for rows in deal_by_hash([b"\xff" * 16, b"\x00" * 16, b"\x80" * 16], (0.4, 0.6))]
        [[1], [2, 0]]
    """
    place, order = (np.array([int.from_bytes(each[a : a + 8], "big") for each in hashes], float) for a in (0, 8))
    part = np.searchsorted(np.cumsum(shares)[:-1], place / 2**64, side="right")
    by_order = np.argsort(order, kind="stable")
    return [by_order[part[by_order] == number] for number in range(len(shares))]


def _check_none_emptied(split: Split) -> None:
    """Refuse a split in which duplicates, or chance where content deals, left a class or everything out of a part."""
    if split.config.by == "content":
        _check_none_left_out(split)
    for part_name, part in (("train", split.train), ("validation", split.validation)):
        for name, count in (class_counts(part) or {"": len(part)}).items():
            if count == 0:
                raise SimulacraError(
                    f"{f'class {name!r}' if name else 'the dataset'} has no image left in the {part_name} split once "
                    "exact duplicates of validation and test images are dropped: it holds too few distinct images, "
                    "add some" + (" or leave the class out" if name else "")
                )


def _check_none_left_out(split: Split) -> None:
    for part_name, part in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        for name, count in (class_counts(part) or {"": len(part)}).items():
            if not count:
                raise SimulacraError(
                    f"{f'class {name!r}' if name else 'the dataset'} has no image in the {part_name} split when "
                    "content deals them: add images, or take another split.seed"
                )

"""Features that were computed before: the last few in memory, those of slow extractors on disk too."""

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra import files
from simulacra.errors import SimulacraError

logger = logging.getLogger(__name__)

Features = NDArray[np.float32]

IN_MEMORY = 4
"""Arrays that are held: reference and samples of a comparison, and as many again."""

LARGEST_FOLDER = 2**30
"""Bytes on disk above which the features that were used longest ago are removed; 130,000 images of Inception's."""

_one_at_a_time = threading.RLock()
"""What one thread computes, another one that waits for it need only look up."""


class FeatureCache:
    """Keeps what an extractor computed under the hash of all that it depends on, which are weights and pixels.

    Nothing in it is ever out of date, so that it may be emptied at any time by removing the folder.

    Args:
        folder: where to keep features from one run to the next; None for memory only.
        largest: bytes of the folder above which what was used longest ago is removed.

    Example:
        >>> cache, images = FeatureCache(), np.zeros((2, 1, 8, 8), np.uint8)
        >>> cache.get({"sha256": "ab"}, images, lambda: np.ones((2, 3), np.float32)).shape
        (2, 3)
        >>> cache.get({"sha256": "ab"}, images.copy(), lambda: 1 / 0).shape
        (2, 3)
    """

    def __init__(self, folder: Path | None = None, *, largest: int = LARGEST_FOLDER) -> None:
        self.folder, self.largest = folder, largest
        self._held: OrderedDict[str, Features] = OrderedDict()

    def get(self, extractor: Mapping[str, Any], images: NDArray[np.uint8], compute: Callable[[], Features]) -> Features:
        """Return the features of images as they were kept, or else computed now and kept; they may not be changed.

        Args:
            extractor: what tells it from others: its weights' hash, and how it prepares images.
            images: uint8 pixels, (n, channels, height, width).
            compute: gives the features (n, d).
        """
        key = _key(extractor, images)
        with _one_at_a_time:
            found = self._held.pop(key, None)
            if found is None:
                found = self._read(key)
            if found is None:
                found = compute()
                self._write(key, found)
            found.flags.writeable = False
            self._held[key] = found
            while len(self._held) > IN_MEMORY:
                self._held.popitem(last=False)
        return found

    def _place(self, key: str) -> Path | None:
        return self.folder and self.folder / f"{key}.safetensors"

    def _read(self, key: str) -> Features | None:
        """Return what lies on disk, if it is whole."""
        from safetensors.numpy import load_file

        place = self._place(key)
        if place is None or not place.is_file():
            return None
        try:
            found: Features = files.read(place, load_file)["features"]
            os.utime(place)  # what was used last is removed last
        except (SimulacraError, OSError) as error:
            logger.warning("features that were kept are computed anew: %s", error)
            return None
        return found

    def _write(self, key: str, features: Features) -> None:
        """Put features on disk; where that cannot be, the run goes on without."""
        from safetensors.numpy import save_file

        place = self._place(key)
        if place is None:
            return
        content = {"features": np.ascontiguousarray(features)}
        try:
            files.write(place, lambda path: save_file(content, path), need=features.nbytes)
            self._shrink(place)
        except (SimulacraError, OSError) as error:
            logger.warning("features cannot be kept in %s, the next run computes them anew: %s", self.folder, error)

    def _shrink(self, newest: Path) -> None:
        """Remove what was used longest ago, until the folder is small enough or only the newest is left."""
        stats = {}
        for path in newest.parent.glob("[0-9a-f]*.safetensors"):  # not what is being written, whose names are hidden
            with suppress(FileNotFoundError):  # another run shrinks the same folder
                stats[path] = path.stat()
        total = sum(stat.st_size for stat in stats.values())
        for path in sorted(stats.keys() - {newest}, key=lambda path: stats[path].st_mtime_ns):
            if total <= self.largest:
                return
            files.remove(path)
            total -= stats[path].st_size


def _key(extractor: Mapping[str, Any], images: NDArray[np.uint8]) -> str:
    """Return one hash of an extractor and of pixels with their shape."""
    about = json.dumps([dict(extractor), images.shape], sort_keys=True)
    digest = hashlib.sha256(about.encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()

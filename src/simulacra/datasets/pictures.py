"""Images as files that any viewer opens: a folder of PNG, and an animated GIF."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulacra.datasets.base import SealedDataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from simulacra.data.image_set import ImageSet

LONGEST_CLASS = 60
"""Letters of a class name that become part of a file's name."""


class PictureFolder(SealedDataset["ImageSet"]):
    """One PNG an image, grey or RGB, called 00000_seven.png by its number and class.

    The names are for people: what is read back has no classes.
    """

    def _read(self, path: Path) -> "ImageSet":
        import numpy as np
        from PIL import Image

        from simulacra.data.image_set import ImageSet

        planes = [np.atleast_3d(np.asarray(Image.open(file))) for file in sorted(path.glob("*.png"))]
        return ImageSet(np.moveaxis(np.stack(planes), -1, 1))

    def _write(self, path: Path, data: "ImageSet") -> None:
        from PIL import Image

        path.mkdir()
        for number, image in enumerate(data.images):
            pixels = image[:3].transpose(1, 2, 0) if len(image) >= 3 else image[0]
            name = "" if data.labels is None else f"_{_file_name(data.class_names[data.labels[number]])}"
            Image.fromarray(pixels).save(path / f"{number:05d}{name}.png")

    def _need(self, data: "ImageSet") -> int:
        return data.images.nbytes


class AnimationDataset(SealedDataset["NDArray[np.uint8]"]):
    """RGB frames (n, height, width, 3) as a GIF that begins anew for ever; pictures in grey keep all their levels.

    Args:
        filepath: where it lies.
        milliseconds: how long each frame is shown.
        last: how long the last one is.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(
        self, filepath: str, milliseconds: int = 200, last: int = 2000, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath, metadata)
        self._milliseconds, self._last = milliseconds, last

    def _read(self, path: Path) -> "NDArray[np.uint8]":
        import numpy as np
        from PIL import Image, ImageSequence

        with Image.open(path) as film:
            return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)])

    def _write(self, path: Path, data: "NDArray[np.uint8]") -> None:
        from PIL import Image

        grey = (data == data[..., :1]).all()
        first, *rest = (Image.fromarray(frame[..., 0] if grey else frame) for frame in data)
        durations = [self._milliseconds] * len(rest) + [self._last]
        first.save(path, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def _file_name(name: str) -> str:
    """Return a class name with nothing in it that a file's name may not hold."""
    return re.sub(r"[^\w.-]+", "-", name)[:LONGEST_CLASS]

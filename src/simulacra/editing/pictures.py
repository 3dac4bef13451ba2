"""The pictures to edit and the mask: the user's own files, or test images and a mask by name."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.config import ImageFolderSource
from simulacra.data.decoding import FORMATS, read_picture, reason
from simulacra.data.folders import EXTENSIONS, Folder, printable
from simulacra.data.image_set import ImageSet
from simulacra.editing.config import MASKS, EditingConfig
from simulacra.editing.masks import Mask, box_mask, checked, named_mask
from simulacra.errors import SimulacraError

MOST_PICTURES = 32
"""Pictures of the user's that one run edits."""
HALF_WHITE = 128
SAME_SHAPE = 0.02
"""Share by which the proportions of a mask and of a picture may differ."""

Size = tuple[int, int]


class Pictures(NamedTuple):
    """What is edited.

    Args:
        images: the pictures, with their classes where they are known.
        names: of the user's files; empty for test images.
        mask: true where they are filled, (height, width).
        remarks: what was done to the user's files on the way.
    """

    images: ImageSet
    names: tuple[str, ...]
    mask: Mask
    remarks: dict[str, Any]


def read_pictures(config: EditingConfig, test_set: ImageSet) -> Pictures:
    """Return the user's pictures as the model's images are, or the first test images of every class; and the mask.

    Raises:
        SimulacraError: for a class that the data do not have, files that cannot be used, a mask that does not fit the
            pictures, and a mask of nothing or everything.
    """
    _, height, width = test_set.shape
    label = _label(config, test_set)
    names: tuple[str, ...] = ()
    if config.images is None:
        chosen, sizes, remarks = _examples(test_set, config.examples), [(width, height)], Counter[str]()
    else:
        names, pixels, sizes, remarks = _read_all(config.images.expanduser(), config, test_set.shape)
        labels = None if label is None else np.full(len(names), label)
        chosen = ImageSet(pixels, labels, test_set.class_names if labels is not None else ())
    said = {"resized": remarks["resized"], "converted": remarks["converted"], "sizes": [list(size) for size in sizes]}
    return Pictures(chosen, names, _mask(config, test_set.shape, names, sizes), said if names else {})


def _label(config: EditingConfig, test_set: ImageSet) -> int | None:
    """Return the index of the class that the user named."""
    if config.class_name is None:
        return None
    if config.images is None:
        raise SimulacraError("editing.class_name is the class of your own pictures: name them by editing.images")
    if not test_set.class_names:
        raise SimulacraError(f"the data have no classes, so editing.class_name cannot be {config.class_name!r}")
    if config.class_name not in test_set.class_names:
        known = ", ".join(test_set.class_names)
        raise SimulacraError(f"editing.class_name {config.class_name!r} is no class of the data; there are {known}")
    return test_set.class_names.index(config.class_name)


def _examples(test_set: ImageSet, n: int) -> ImageSet:
    """Return the first test image of every class, then the second, until there are enough."""
    from simulacra.exploration.space import in_turn

    classes = np.zeros(len(test_set), np.int64) if test_set.labels is None else test_set.labels
    return test_set.take(in_turn(classes, n))


def _read_all(
    place: Path, config: EditingConfig, shape: tuple[int, int, int]
) -> tuple[tuple[str, ...], NDArray[np.uint8], list[Size], Counter[str]]:
    """Return the names, pixels and original sizes of the user's pictures, and what was done to them."""
    paths = _paths(place)
    remarks: Counter[str] = Counter()
    read = [_read(path, config, shape, remarks) for path in paths]
    pixels = np.stack([image for image, _ in read])
    return tuple(printable(path.name) for path in paths), pixels, [size for _, size in read], remarks


def _paths(place: Path) -> list[Path]:
    """Return one picture file, or all in a folder."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise SimulacraError(f"editing.images: {place} is neither a picture nor a folder of pictures: correct the path")
    names = Folder(place).listing.names
    if not 1 <= len(names) <= MOST_PICTURES:
        raise SimulacraError(
            f"editing.images: {place} has {len(names)} pictures ({', '.join(sorted(EXTENSIONS))}); one run edits 1 to "
            f"{MOST_PICTURES}: name another folder, or one picture"
        )
    return [place / name for name in names]


def _read(
    path: Path, config: EditingConfig, shape: tuple[int, int, int], remarks: Counter[str]
) -> tuple[NDArray[np.uint8], Size]:
    """Return one picture as the model's images are, (channels, size, size), and its own width and height."""
    from PIL import Image

    grey = shape[0] == 1
    source = ImageFolderSource(path=path, size=shape[2], colour="grey" if grey else "rgb", resize=config.resize)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image, size = read_picture(file, source, remarks), _size(file)
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise SimulacraError(f"{printable(str(path))} can't be used: {reason(error, source.max_pixels)}") from error
    return (255 - image if config.invert else image), size


def _size(file: BinaryIO) -> Size:
    """Return width and height of a picture as every viewer shows it."""
    from PIL import Image, ImageOps

    image = Image.open(file, formats=FORMATS)
    try:
        return ImageOps.exif_transpose(image).size
    except Exception:  # as for the pixels, damaged EXIF data turn nothing
        return image.size


def _mask(config: EditingConfig, shape: tuple[int, int, int], names: tuple[str, ...], sizes: list[Size]) -> Mask:
    """Return true where pictures are filled, (height, width)."""
    _, height, width = shape
    if config.box is not None:
        return checked(box_mask(config.box, height, width), f"editing.box {list(config.box)}")
    if config.mask in MASKS:
        return checked(named_mask(config.mask, height, width), f"the mask {config.mask} of {height}×{width} pixels")
    path = Path(config.mask).expanduser()
    # Brought to size as the pictures are, so that what was painted over them lies where it was painted.
    pixels, size = _read(path, config.model_copy(update={"invert": False}), (1, height, width), Counter())
    for name, other in zip(names or ("the test images",), sizes, strict=False):
        if abs(size[0] * other[1] / (size[1] * other[0]) - 1) > SAME_SHAPE:
            raise SimulacraError(
                f"the mask {path} has {size[0]}×{size[1]} pixels and {name} {other[0]}×{other[1]}: "
                "make the mask of the picture's shape"
            )
    return checked(pixels[0] >= HALF_WHITE, f"the mask {path}")

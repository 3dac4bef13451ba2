"""Images that another program made, read so that they can be judged beside those of the project's own families."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.config import ImageFolderSource
from simulacra.data.image_set import ImageSet
from simulacra.data.images import read_image_folder
from simulacra.errors import SimulacraError

Record = dict[str, Any]
Shape = tuple[int, int, int]

NPZ = ".npz"


def read_guest(name: str, place: Path, shape: Shape) -> tuple[ImageSet, Record]:
    """Return images in the shape of a dataset's, without labels, and a record of where they come from.

    Pictures of a folder or an archive are brought to that size and colour as those of a dataset are, see
    `simulacra.data.images.read_image_folder`; the array of an npz file must have both.

    Args:
        name: what they are called, for messages.
        place: folder or archive of pictures, or an npz file with one array of uint8.
        shape: of one image of the dataset, (channels, height, width).

    Raises:
        SimulacraError: where there are none, or not of such a shape; names what is wrong.
    """
    place = place.expanduser()
    try:
        images, record = _array(place, shape) if place.suffix.lower() == NPZ else _pictures(place, shape)
    except SimulacraError as error:
        raise SimulacraError(f"guests.{name}: {error}") from error
    return ImageSet(images), {"path": str(place), "n": len(images), **record}


def _pictures(place: Path, shape: Shape) -> tuple[NDArray[np.uint8], Record]:
    channels, height, width = shape
    if height != width or channels not in (1, 3):
        raise SimulacraError(f"the dataset's images are {shape}, which no picture is brought to; give an npz file")
    source = ImageFolderSource(path=place, size=height, colour="grey" if channels == 1 else "rgb")
    found, record = read_image_folder(source)
    return found.images, {"sha256": record["sha256"]["files"], "resize": source.resize, **record["remarks"]}


def _array(place: Path, shape: Shape) -> tuple[NDArray[np.uint8], Record]:
    array = _only_array(place)
    if array.dtype != np.uint8:
        raise SimulacraError(f"{place} holds {array.dtype}; save pixels as uint8, from 0 to 255")
    channels, height, width = shape
    if array.shape[1:] == (height, width, channels):
        array = np.moveaxis(array, -1, 1)
    elif channels == 1 and array.shape[1:] == (height, width):
        array = array[:, np.newaxis]
    if array.shape[1:] != shape or not len(array):
        raise SimulacraError(
            f"{place} holds an array of shape {array.shape}; save it as (n, {channels}, {height}, {width})"
        )
    images = np.ascontiguousarray(array)
    return images, {"sha256": hashlib.sha256(images.data).hexdigest()}


def _only_array(place: Path) -> NDArray[Any]:
    """Return the one array of an npz file; nothing in it is unpickled."""
    try:
        with np.load(place, allow_pickle=False) as content:
            if len(content.files) != 1:
                names = ", ".join(content.files) or "none"
                raise SimulacraError(f"{place} holds {len(content.files)} arrays ({names}); save one of images alone")
            array: NDArray[Any] = content[content.files[0]]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise SimulacraError(f"{place} cannot be read as an npz file of numbers: {reason}") from error
    return array

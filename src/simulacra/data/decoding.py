"""One picture file of any format, as a square array of 8-bit pixels."""

from collections import Counter
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from simulacra.data.config import ImageFolderSource
from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# Pillow goes by content, not by extension; naming the formats keeps out those that run other programs, like EPS.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
# Modes deeper than 8 bits: what white may be. The first that is no less than the image's maximum is taken.
WHITE_LEVELS = {"F": (1, 255), "I": (255, 65535), "I;16": (65535,), "I;16B": (65535,), "I;16L": (65535,)}


def read_picture(file: BinaryIO, source: ImageFolderSource, remarks: Counter[str]) -> NDArray[np.uint8]:
    """Return one open file as (channels, size, size).

    Policies: the first frame of a file that has several; EXIF orientation applied, unless the EXIF data are damaged;
    transparency laid on white; CMYK and palettes turned to RGB without colour profiles; grey as ITU-R 601 luma; 16 bits
    scaled to 8; floating point read as [0, 1], or as [0, 255] where it exceeds 1, and 32-bit integers as 8 bits, or as
    16 where they exceed 255; Lanczos resampling, with antialiasing.

    Args:
        file: open for reading, and seekable.
        source: what the picture is brought to, and how many pixels it may have.
        remarks: what was done to the picture is counted here.

    Raises:
        SimulacraError: where the file is empty or its pixels are too many or out of range.
        Exception: nearly anything, from Pillow, where the file is damaged; `reason` puts it in words.
    """
    from PIL import Image, ImageOps

    if file.seek(0, 2) == 0:
        raise SimulacraError("zero bytes: replace it")
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    # Known from the header alone, so that a forged or enormous file never takes up memory.
    if width * height > source.max_pixels:
        raise SimulacraError(f"{width}×{height} is more than max_pixels = {source.max_pixels}: shrink it or raise that")
    # Not n_frames, for which Pillow walks through all of them, be they a million.
    remarks["first_frame_only"] += getattr(image, "is_animated", False)
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # the pixels are whole, and every viewer shows them as they lie
        remarks["exif_unreadable"] += 1
    target = "L" if source.colour == "grey" else "RGB"
    remarks["converted"] += image.mode != target
    remarks["resized"] += image.size != (source.size, source.size)
    square = _squared(_opaque(image).convert(target), source.size, source.resize)
    return np.asarray(square).reshape(source.size, source.size, -1).transpose(2, 0, 1)


def reason(error: Exception, max_pixels: int) -> str:
    """Return in words why an image can't be used, and the remedy."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, SimulacraError):
        return str(error)
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than max_pixels = {max_pixels} pixels: shrink it"
    if isinstance(error, UnidentifiedImageError):
        return f"no {', '.join(FORMATS)} image: replace it"
    return f"unreadable, {str(error) or type(error).__name__}: mend or replace it"


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

"""The idx files of Fashion-MNIST: where they lie, and what is in one."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulacra.data.config import FashionMnistSource
from simulacra.errors import SimulacraError

# Of the uncompressed files: distributors gzip them anew, each with other bytes.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
IDX_UINT8 = 0x08
MAX_BYTES = 2**26
"""Most bytes that a file is unpacked to; the largest original has 47,040,016."""


def fashion_mnist_folder(source: FashionMnistSource) -> Path:
    """Return the folder that has the idx files, downloading them where none has and the source allows it.

    Raises:
        SimulacraError: where there are none, and they can't or may not be downloaded.
    """
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


def read_idx(folder: Path, name: str, sha256: str) -> NDArray[np.uint8]:
    """Return the uint8 array of an idx file, (n,) for `idx1` names and (n, height, width) for `idx3` ones.

    An idx file is two zero bytes, one for the dtype, one for the number of dimensions, each dimension as a big-endian
    uint32, and the values.

    Args:
        folder: where it lies.
        name: its name without `.gz`; the gzipped form is taken where both are there.
        sha256: what the file must hash to, uncompressed.

    Raises:
        SimulacraError: where the file is missing, damaged, or not the original.
    """
    path = _gzipped_or_not(folder, name)
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
    """Return the bytes of a file, gunzipped where its name says so, and no more of them than an original could have."""
    if not path.is_file():
        raise SimulacraError(f"{path} is missing: put it there, or empty the folder to have it downloaded")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SimulacraError(f"{path} can't be read, it may be truncated or damaged ({error}): replace it") from error
    if len(data) > MAX_BYTES:
        raise SimulacraError(f"{path} holds more than {MAX_BYTES} bytes, far more than the original: replace it")
    return data

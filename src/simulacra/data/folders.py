"""Pictures in a folder of the user's: which files are taken, and which links and names are refused."""

from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from simulacra.errors import SimulacraError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
MAC_LITTER = "__MACOSX"
"""Folder of resource forks that macOS puts into archives; they are named like the images they belong to."""
MAX_DEPTH = 32
"""Folders within each other, far more than anyone has: each costs a level of recursion."""


Opener = Callable[[], BufferedReader | BytesIO]


class Listing(NamedTuple):
    """What a folder or an archive holds.

    Args:
        names: the pictures, as paths below the top with `/`, in reading order.
        folders: the folders at the top.
        ignored: number of other files.
    """

    names: list[str]
    folders: list[str]
    ignored: int


class Pictures(Protocol):
    """A place that holds pictures, and knows what it holds."""

    place: Path
    listing: Listing

    def each(self) -> Iterator[tuple[str, Opener]]:
        """Yield every picture by its name in the listing, with what opens it; the order is the place's own."""


class Folder:
    """Pictures in a folder; hidden folders stay closed.

    Args:
        place: the folder.

    Raises:
        SimulacraError: where it can't be read, has a link that leads astray or a name that can't be a class.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            files = list(_walk(place, place.resolve(), 0))
            folders = sorted(entry.name for entry in place.iterdir() if entry.is_dir() and not is_hidden(entry.name))
        except OSError as error:
            unread = printable(str(error.filename))
            raise SimulacraError(f"{unread} can't be read ({error.strerror}): correct its permissions") from error
        # A pipe or a device by the name of an image would block the reader.
        names = [path.relative_to(place).as_posix() for path in files if is_image(path.name) and path.is_file()]
        self.listing = Listing(names, folders, len(files) - len(names))

    def each(self) -> Iterator[tuple[str, Opener]]:
        """Yield every picture by its name in the listing, with what opens it."""
        for name in self.listing.names:
            yield name, partial(self._open, name)

    def _open(self, name: str) -> BufferedReader:
        return (self.place / name).open("rb")


def is_image(name: str) -> bool:
    """Tell an image by its file name."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Tell what file managers and version control leave behind from what the user put there."""
    return name.startswith(".") or name == MAC_LITTER


def printable(name: str) -> str:
    r"""Return a name as a message can carry it: no control characters, nothing that turns the writing round.

    Example:
        >>> printable("cat.png"), printable("\u202egnp.tac")
        ('cat.png', '\\u202egnp.tac')
    """
    return name if name.isprintable() else ascii(name)[1:-1]


def check_folder_name(name: str, place: Path) -> None:
    """Refuse what can't be a class: its name goes into records, pages and figures.

    Raises:
        SimulacraError: for unprintable characters, or bytes that are no text.
    """
    if not name.isprintable():
        raise SimulacraError(f"the folder name {name!a} in {place} has unprintable characters: rename it")


def _walk(folder: Path, root: Path, depth: int) -> Iterator[Path]:
    """Yield all files below a folder, sorted; hidden folders stay closed, and links must stay within root."""
    if depth > MAX_DEPTH:
        raise SimulacraError(f"{root} has more than {MAX_DEPTH} folders within each other: move the images up")
    for entry in sorted(folder.iterdir()):
        hidden = is_hidden(entry.name)
        if entry.is_symlink() and not hidden:
            _check_link(entry, root)
        if not entry.is_dir():
            yield entry
        elif not hidden:
            check_folder_name(entry.name, folder)
            yield from _walk(entry, root, depth + 1)


def _check_link(link: Path, root: Path) -> None:
    """Refuse a link that is broken, leads out of root, or leads to a folder, which might hold the link itself."""
    shown = printable(str(link))
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SimulacraError(f"the link {shown} leads nowhere: mend or remove it") from error
    if not target.is_relative_to(root) or target.is_dir():
        fault = "to a folder" if target.is_relative_to(root) else f"out of {root}"
        raise SimulacraError(f"the link {shown} leads {fault}: copy what it stands for, or remove it")

"""Pictures in a zip or tar archive, read one by one in memory: nothing is ever unpacked to the disk.

An archive comes from elsewhere, so neither its names nor the sizes that it declares are believed.
"""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from simulacra.data.config import LONGEST_NAME
from simulacra.data.folders import MAX_DEPTH, Listing, Opener, check_folder_name, is_hidden, is_image, printable
from simulacra.errors import SimulacraError

ZIP = ".zip"
TARS: dict[str, Callable[[Path], Any]] = {
    ".tar": lambda path: path.open("rb"),
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
"""How to open a tar archive of each ending; all of them unpack no more at a time than is asked for."""
ENDINGS = (ZIP, *TARS)

MAX_MEMBERS = 1_000_000
MAX_PICTURE = 256 * 2**20
"""Bytes of one picture, which is held in memory: five for each pixel of the default `max_pixels`."""
MAX_RATIO, ALWAYS_ALLOWED = 100, 256 * 2**20
"""An archive may unpack to so many times its size, or to so many bytes where that is more: pictures shrink little."""
CHUNK = 2**15
"""Bytes read at a time, and the most that a tar may spend on one long name or set of attributes."""

COMMON_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How zips are compressed nearly always; Python unpacks the other ways without a bound on what comes out at a time."""
ENCRYPTED = 0x1
TRUST = "if you trust it, unpack it yourself and give the folder as path"


class Archive:
    """Pictures in an archive; a single folder at the top that holds all the others, as is usual, is passed over.

    Args:
        place: the archive's file.

    Raises:
        SimulacraError: where the archive is damaged or holds far too much, or a member is none that could lie in a
            folder of pictures; names the first one.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        files, folders = self._scan()
        pictures = sorted(filter(_is_picture, files), key=lambda name: name.split("/"))
        tops = {name.split("/")[0] for name in (*pictures, *folders)}
        cut = len(min(tops)) + 1 if len(tops) == 1 and not tops & files else 0
        self._names = {name: name[cut:] for name in pictures}
        below = {name[cut:].split("/")[0] for name in folders if name[cut:]}
        self.listing = Listing(list(self._names.values()), sorted(below), len(files) - len(pictures))

    def each(self) -> Iterator[tuple[str, Opener]]:
        """Yield every picture by its name in the listing, with what opens it, in the order of the archive.

        Raises:
            SimulacraError: where a member is damaged, or too much comes out.
        """
        total, left = 0, set(self._names)
        for member in _members(self.place):
            name = "/".join(_parts(member.name))
            if name in left and not member.is_folder:
                left.remove(name)
                picture = _unpacked(self.place, member)
                total += len(picture)
                if total > _allowance(self.place):
                    raise _too_much(self.place)
                yield self._names[name], partial(io.BytesIO, picture)
        if left:
            raise SimulacraError(f"{self.place} has changed while it was read: run again when it is complete")

    def _scan(self) -> tuple[set[str], set[str]]:
        """Return the full names of files and folders outside hidden folders, after a look at every member."""
        seen: set[str] = set()
        folders: set[str] = set()
        for number, member in enumerate(_members(self.place), start=1):
            if number > MAX_MEMBERS:
                raise SimulacraError(f"{self.place} has more than {MAX_MEMBERS:,} members: {TRUST}")
            parts = _parts(member.name)
            name = "/".join(parts)
            if fault := _name_fault(member) or member.fault or ("is there twice" if name in seen else ""):
                raise _refusal(self.place, member, fault)
            if not member.is_folder:
                seen.add(name)
            above = parts if member.is_folder else parts[:-1]
            if not any(map(is_hidden, above)):
                for part in above:
                    check_folder_name(part, self.place)
                folders |= {"/".join(above[:depth]) for depth in range(1, len(above) + 1)}
        return {name for name in seen if not any(map(is_hidden, name.split("/")[:-1]))}, folders


class _Member(NamedTuple):
    """One entry of an archive: its name as written there, and what is wrong with it, if anything, beside its name."""

    name: str
    is_folder: bool
    fault: str
    open: Callable[[], IO[bytes]]


class _Bounded(io.BufferedIOBase):
    """The bytes of a tar, out of which no more comes, at a time or in all, than an archive of pictures needs.

    Args:
        file: the bytes, unpacked on the way.
        place: the archive's file.
    """

    def __init__(self, file: IO[bytes], place: Path) -> None:
        self._file, self._place, self._allowance = file, place, _allowance(place)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to so many bytes; the number is the header's word, and may be forged."""
        if size is None or not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an offset from the beginning."""
        self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the offset from the beginning."""
        return self._file.tell()

    def _check(self, offset: int) -> None:
        if offset > self._allowance + CHUNK:
            raise _too_much(self._place)


def is_archive(place: Path) -> bool:
    """Tell an archive by its name."""
    return place.is_file() and place.name.lower().endswith(ENDINGS)


def _members(place: Path) -> Iterator[_Member]:
    """Yield every member; each must be read before the next."""
    with _damage_told(str(place)):
        yield from _zip_members(place) if place.name.lower().endswith(ZIP) else _tar_members(place)


def _zip_members(place: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(place) as archive:
        for info in archive.infolist():
            yield _Member(info.filename, info.is_dir(), _zip_fault(info), partial(archive.open, info))


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if "\0" in info.orig_filename:  # zipfile itself cuts the name there
        return "has a NUL in its name"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in COMMON_METHODS:
        return "is packed in an uncommon way, neither stored nor deflated"
    return _size_fault(info.filename, info.file_size)


def _tar_members(place: Path) -> Iterator[_Member]:
    ending = next(ending for ending in TARS if place.name.lower().endswith(ending))
    with TARS[ending](place) as file, tarfile.TarFile(fileobj=(bounded := _Bounded(file, place))) as archive:
        for info in iter(archive.next, None):
            yield _Member(info.name, info.isdir(), _tar_fault(info), partial(_extracted, archive, info))
            archive.members.clear()  # type: ignore[attr-defined]  # else tarfile remembers every one
        # To tarfile, an archive that is cut or garbled between two members is one that ends there.
        bounded.seek(archive.offset)
        if bounded.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"no member and no end at byte {archive.offset}")
        while bounded.read(CHUNK):  # the checksum comes last
            pass


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.ReadError("it is no file")
    return file


def _tar_fault(info: tarfile.TarInfo) -> str:
    if not info.isreg() and not info.isdir():
        return "is a link or a device"
    if info.issparse() or info.size < 0:
        return "is written as a sparse file"
    return _size_fault(info.name, info.size)


def _size_fault(name: str, size: int) -> str:
    return (
        f"has {size} bytes, more than the {MAX_PICTURE} of a picture"
        if _is_picture(name) and size > MAX_PICTURE
        else ""
    )


def _name_fault(member: _Member) -> str:
    name, parts = member.name, _parts(member.name)
    if "\0" in name:
        return "has a NUL in its name"
    if "\\" in name or re.match(r"[A-Za-z]:", name):
        return "is named as on Windows, with a drive or backslashes"
    if name.startswith("/") or ".." in parts:
        return "leads out of the archive"
    if any(len(part.encode(errors="surrogateescape")) > LONGEST_NAME for part in parts):
        return f"has a name of more than {LONGEST_NAME} bytes"
    if len(parts) > MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} folders deep"
    return "" if parts or member.is_folder else "has no name"


def _parts(name: str) -> list[str]:
    """Return the parts of a member's name; percent signs stand for themselves."""
    return [part for part in name.split("/") if part not in ("", ".")]


def _is_picture(name: str) -> bool:
    return is_image(name.rsplit("/", 1)[-1])


def _unpacked(place: Path, member: _Member) -> bytes:
    """Return the bytes of a member, counted as they come."""
    data = io.BytesIO()
    with _damage_told(f"{place}: the member {_quoted(member.name)}"), member.open() as file:
        while chunk := file.read(CHUNK):
            data.write(chunk)
            if data.tell() > MAX_PICTURE:
                raise _refusal(place, member, f"unpacks to more than the {MAX_PICTURE} bytes of a picture")
    return data.getvalue()


def _allowance(place: Path) -> int:
    """Return how many bytes may come out of an archive in all."""
    return max(ALWAYS_ALLOWED, MAX_RATIO * place.stat().st_size)


def _too_much(place: Path) -> SimulacraError:
    return SimulacraError(
        f"{place} unpacks to more than {_allowance(place) / 2**20:,.0f} MiB, far more than pictures do: {TRUST}"
    )


def _refusal(place: Path, member: _Member, fault: str) -> SimulacraError:
    return SimulacraError(f"{place}: the member {_quoted(member.name)} {fault}: make the archive anew without that")


def _quoted(name: str) -> str:
    return f"'{printable(name if len(name) <= LONGEST_NAME else name[:40] + '…')}'"


@contextmanager
def _damage_told(what: str) -> Iterator[None]:
    """Turn whatever the readers of damaged or forged archives raise into the user's message."""
    try:
        yield
    except SimulacraError:
        raise
    except Exception as error:  # struct, zlib, lzma, Unicode, recursion: nearly anything
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise SimulacraError(f"{what} can't be read, it may be truncated or damaged ({reason}): replace it") from error

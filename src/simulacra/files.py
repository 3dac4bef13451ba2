"""Files and folders that are there whole or not at all: written beside their place, synced, sealed by sha256, renamed.

The hidden names beside a place `a/b.json` are `a/.b.json.seal` (its hashes), `a/.new-<machine>-<process>.b.json` (the
folder in which it is written) and `a/.b.json.former` (a folder that steps aside while another takes its place).
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from simulacra.errors import SimulacraError

T = TypeVar("T")

UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
"""What the operating system says where the user's machine, and not a bug, keeps a file from being written."""

RESERVE = 32 * 2**20
"""Bytes that a write leaves free on the disk: others need some too, and a full disk damages more than one file."""

SCRATCH = f".new-{os.uname().nodename}-"
"""How the names begin of folders that this machine's processes write in; several machines may share a disk."""

ATTEMPTS = 3
"""How often a reader looks before it finds fault: another process may be putting a file in place at that moment."""


class Part(NamedTuple):
    """What a seal says of one file: its hash, and what tells quickly that nobody has touched it since."""

    sha256: str
    size: int
    mtime_ns: int


Parts = dict[str, Part]
"""The files of one place by relative path; a place that is a file itself has the one key ""."""


class Seal(NamedTuple):
    """What ought to lie in a place, and what lay there before.

    The seal is written first and the place renamed after it, so that between the two, where a process may be killed,
    the place still matches one of them.
    """

    parts: Parts
    previous: Parts | None


def write(place: Path, fill: Callable[[Path], object], *, need: int = 0) -> str:
    """Put a file or folder in its place as a whole; whatever happens on the way, the former one stays until then.

    Args:
        place: where it goes; folders above it are made.
        fill: writes it to the path that it is given, of the same name as the place: a file, or a folder that it makes.
        need: bytes that it will take, as far as they are known beforehand.

    Returns:
        The sha256 as `sealed` gives it.

    Raises:
        SimulacraError: where the disk lacks the space.
        OSError: where the place cannot be written to; names it.
    """
    # A folder of its own, since libraries leave temporary files beside what they write when they are killed.
    workshop = place.with_name(f"{SCRATCH}{os.getpid()}.{place.name}")
    with _naming(place):
        _make_folder(place.parent)
        _remove_leftovers(place.parent)
        _remove(workshop)
        _check_space(place, need)
        try:
            workshop.mkdir()
            scratch = workshop / place.name
            fill(scratch)
            _finish(scratch)
            parts = _parts(scratch)
            _recover(place)
            with _locked(place.parent):
                _put(scratch, parts, place)
        finally:
            _remove(workshop)
    return _digest(parts)


def write_record(place: Path, record: Mapping[str, Any]) -> None:
    """Write a small record as JSON, whole though without a seal: what is there is the former one or the new one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_name(f"{place.name}.new")
    try:
        scratch.write_text(json.dumps(record))
        _sync(scratch)
        scratch.replace(place)
    finally:
        _remove(scratch)
    _sync(place.parent)


def check(place: Path) -> str:
    """Read every byte of a place, and return its sha256.

    Raises:
        SimulacraError: where it is missing, cut short, altered or without a seal; names the file.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(SimulacraError):
            return _digest(_whole(place))
    try:
        return _digest(_whole(place))
    except SimulacraError:
        _distrust(place)
        raise


def read(place: Path, take: Callable[[Path], T]) -> T:
    """Return what `take` makes of a place that is whole, and that nobody replaced while it was read.

    Raises:
        SimulacraError: as `check` does, and where the place is replaced again and again.
    """
    for _ in range(ATTEMPTS):
        sha256 = check(place)
        try:
            data = take(place)
        except Exception:
            if sealed(place) == sha256:
                raise
            continue  # half of it was gone before it was read
        if sealed(place) == sha256:
            return data
    raise SimulacraError(f"{place} changes while it is read; wait for the run that writes it to end")


def sealed(place: Path) -> str | None:
    """Return the sha256 of what lies whole in a place, else None; its bytes are read only where it was touched.

    A file has the hash that `sha256sum` prints, a folder the hash of its files' names and hashes.
    """
    try:
        _recover(place)
        parts = _matching(place)
    except OSError:
        return None
    return None if parts is None else _digest(parts)


def remove(place: Path) -> None:
    """Remove a file or folder with its seal, the seal first; nothing happens where there is none."""
    for path in (_seal_path(place), _former(place), place):
        _remove(path)


def _whole(place: Path) -> Parts:
    """Return the parts that lie in a place, every byte of them read.

    Raises:
        SimulacraError: where they are not what the seal says.
    """
    try:
        _recover(place)
        there, seal, actual = place.exists(), _read_seal(place), _parts(place)
    except OSError as error:
        raise SimulacraError(f"{place} cannot be read: {error.strerror}") from error
    if not there:
        raise SimulacraError(f"{place} is not there yet; run the stage that makes it first")
    if seal is None:
        fault = f"{place} has no seal: it was not written to its end, or not by this project"
    elif any(parts and _digest(parts) == _digest(actual) for parts in seal):
        return actual
    else:
        fault = _damage(place, seal.parts, actual)
    raise SimulacraError(f"{fault}; run the stage that makes it again")


def _damage(place: Path, expected: Parts, actual: Parts) -> str:
    """Return what is wrong with the first file that is not as it was written."""
    for name in sorted(expected.keys() | actual.keys()):
        path = place / name
        if name not in actual:
            return f"{place} is damaged: {name or 'the file'} is missing"
        if name not in expected:
            return f"{place} is damaged: {name or 'the file'} does not belong there"
        if actual[name].size != expected[name].size:
            return f"{path} is damaged: it has {actual[name].size:,} bytes and was written with {expected[name].size:,}"
        if actual[name].sha256 != expected[name].sha256:
            return f"{path} is damaged: its bytes are not those that were written"
    return f"{place} is damaged"


def _distrust(place: Path) -> None:
    """Touch what was found at fault, so that `sealed`, which trusts times, reads its bytes from now on."""
    with suppress(OSError):
        for path in _files(place):
            os.utime(path)


def _matching(place: Path) -> Parts | None:
    """Return the sealed parts that lie in the place, told by size and time, or by hash where a time differs."""
    stats = {name: path.stat() for name, path in _named_files(place)}
    for parts in filter(None, _read_seal(place) or ()):
        if parts.keys() != stats.keys() or any(stats[name].st_size != part.size for name, part in parts.items()):
            continue
        untouched = all(stats[name].st_mtime_ns == part.mtime_ns for name, part in parts.items())
        if untouched or _digest(_parts(place)) == _digest(parts):
            return parts
    return None


def _digest(parts: Parts) -> str:
    """Return one hash for all parts: the file's own, or for a folder that of names and hashes."""
    if parts.keys() == {""}:
        return parts[""].sha256
    return hashlib.sha256(json.dumps(sorted((name, part.sha256) for name, part in parts.items())).encode()).hexdigest()


def _parts(place: Path) -> Parts:
    """Return what a seal should say of the place as it is."""
    parts = {}
    for name, path in _named_files(place):
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            parts[name] = Part(hashlib.file_digest(file, "sha256").hexdigest(), stat.st_size, stat.st_mtime_ns)
    return parts


def _named_files(place: Path) -> Iterator[tuple[str, Path]]:
    for path in _files(place):
        yield ("" if path == place else path.relative_to(place).as_posix()), path


def _files(place: Path) -> list[Path]:
    """Return the files of a place, but not those that file managers hide in every folder that they show."""
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))


def _seal_path(place: Path) -> Path:
    return place.with_name(f".{place.name}.seal")


def _write_seal(place: Path, seal: Seal) -> None:
    write_record(_seal_path(place), seal._asdict())


def _read_seal(place: Path) -> Seal | None:
    """Return the seal of a place, None where there is none or it cannot be understood."""
    try:
        raw = json.loads(_seal_path(place).read_text())
        parts, previous = (
            None if raw[key] is None else {name: Part(*part) for name, part in raw[key].items()} for key in Seal._fields
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return None if parts is None else Seal(parts, previous)


def _finish(scratch: Path) -> None:
    """Make what was written last, and readable by whoever may read the folder: safetensors keeps it to its writer."""
    readers = scratch.parent.stat().st_mode & 0o666
    for path in (scratch, *scratch.rglob("*")):
        path.chmod(path.stat().st_mode | readers)
        _sync(path)


def _put(scratch: Path, parts: Parts, place: Path) -> None:
    """Seal and rename; a folder cannot be renamed over another, so the former one steps aside for that moment.

    Raises:
        OSError: where a file would take a folder's place or a folder a file's: whatever that is, it is not ours.
    """
    if place.exists() and place.is_dir() != scratch.is_dir():
        kind = "folder" if place.is_dir() else "file"
        raise OSError(errno.EISDIR if place.is_dir() else errno.ENOTDIR, f"there is a {kind} of that name")
    _write_seal(place, Seal(parts, _matching(place)))
    former = _former(place)
    _remove(former)
    if place.is_dir():
        place.rename(former)
    scratch.rename(place)
    _sync(place.parent)
    _remove(former)


def _former(place: Path) -> Path:
    return place.with_name(f".{place.name}.former")


def _recover(place: Path) -> None:
    """Put back the folder that stepped aside for one that never came."""
    former = _former(place)
    if not place.exists() and former.exists():
        with _locked(place.parent):
            if not place.exists():
                former.rename(place)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from renaming places in the folder at the same time; a killed process holds no lock."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no such locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # closing is not enough where a child process was forked meanwhile
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next((path for path in (folder, *folder.parents) if path.is_file()), folder)
        raise NotADirectoryError(errno.ENOTDIR, f"{blocking} is a file, not a folder") from error


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that are no more had begun to write."""
    for path in folder.iterdir():
        process = path.name.removeprefix(SCRATCH).split(".")[0]
        if path.name.startswith(SCRATCH) and process.isdecimal() and not _alive(int(process)):
            with suppress(FileNotFoundError):  # another process clears up too
                _remove(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_space(place: Path, need: int) -> None:
    free = shutil.disk_usage(place.parent).free
    if free < need + RESERVE:
        raise SimulacraError(
            f"{place} needs {need / 2**20:,.0f} MiB, {RESERVE / 2**20:.0f} MiB must stay free for others, and the disk "
            f"has {free / 2**20:,.0f} MiB: make room, or move data_root in conf/base/globals.yml to another disk"
        )


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """Turn what libraries make of a failed write into the OSError that it was, with the place's name."""
    try:
        yield
    except Exception as error:
        code, said = _refusal(error)
        if code is None:
            raise
        raise OSError(code, said, str(place)) from error


def _refusal(error: BaseException | None) -> tuple[int | None, str]:
    """Return the operating system's number and words behind an error, where it is one of UNWRITABLE."""
    while error is not None:
        # Libraries in Rust, safetensors among them, tell the number in words only.
        told = re.search(r"\(os error (\d+)\)", str(error))
        code = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if code in UNWRITABLE:
            return code, getattr(error, "strerror", None) or os.strerror(code)
        error = error.__cause__ or error.__context__
    return None, ""

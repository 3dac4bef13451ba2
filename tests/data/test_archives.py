import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simulacra.data import archives
from simulacra.data.config import ImageFolderSource
from simulacra.data.images import load_images
from simulacra.errors import SimulacraError

RNG = np.random.default_rng(0)
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}
ENDINGS = [".zip", *PACKED]
EVIL_NAMES = {
    "../evil.png": "leads out of the archive",
    "cat/../../evil.png": "leads out of the archive",
    "cat/..": "leads out of the archive",
    "/tmp/evil.png": "leads out of the archive",
    "//evil.png": "leads out of the archive",
    "C:/evil.png": "named as on Windows",
    "c:evil.png": "named as on Windows",
    "..\\evil.png": "named as on Windows",
    "cat\\evil.png": "named as on Windows",
    "\\\\server\\share\\evil.png": "named as on Windows",
    "evil\0.png": "has a NUL in its name",
    f"{'e' * 252}.png": "has a name of more than 255 bytes",
    f"{'ü' * 128}/evil.png": "has a name of more than 255 bytes",
    "/".join(["cat"] * 33) + "/evil.png": "lies more than 32 folders deep",
}


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def pets() -> dict[str, bytes]:
    """Two classes, one of them in nested folders, and what lies about in folders of pictures."""
    names = ["cat/1.png", "cat/2.png", "cat/3.png", "dog/large/1.png", "dog/small/1.png", "dog/z.png"]
    others = {"README.md": b"my pets", "cat/._1.png": b"of a Mac", ".cache/1.png": b"a thumbnail"}
    return {name: picture(10 * number) for number, name in enumerate(names, start=1)} | others


def as_tar(members: dict[str, bytes | tarfile.TarInfo], kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            if "\0" in name:  # the older headers end a name there
                info.name, info.pax_headers = "evil.png", {"path": name}
            if not isinstance(content, tarfile.TarInfo):
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def as_zip(members: dict[str, bytes | zipfile.ZipInfo]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members.items():
            info = content if isinstance(content, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.filename = name  # where the constructor would cut it at a NUL
            archive.writestr(info, b"elsewhere" if isinstance(content, zipfile.ZipInfo) else content)
    return file.getvalue()


def packed(place: Path, members: dict[str, bytes]) -> Path:
    """Write an archive of the kind that its name says."""
    ending = next(ending for ending in ENDINGS if place.name.endswith(ending))
    place.write_bytes(as_zip(members) if ending == ".zip" else PACKED[ending](as_tar(members)))
    return place


def read(place: Path, **options: object) -> tuple[object, dict]:
    return load_images(ImageFolderSource(**({"path": place, "size": 8, "colour": "grey"} | options)))


def tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(root.rglob("*"))}


def complaint(place: Path, **options: object) -> str:
    """What the user reads when an archive is refused: one line that names it, and nothing is left behind."""
    before = tree(place.parent)
    with pytest.raises(SimulacraError) as caught:
        read(place, **options)
    assert tree(place.parent) == before
    message = str(caught.value)
    assert str(place) in message and message.isprintable() and ": " in message.removeprefix(str(place))
    return message


# --- what is read


@pytest.mark.parametrize("top", ["", "pets/", "./", "./pets/", "%2e%2e/"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path: Path, ending: str, top: str) -> None:
    folder = tmp_path / "pets"
    for name, data in pets().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    expected, record = read(folder)
    shuffled = sorted(pets().items(), key=lambda item: hashlib.md5(item[0].encode()).digest())
    place = packed(tmp_path / f"pets{ending}", {f"{top}{name}": data for name, data in shuffled})
    images, same = read(place)
    assert np.array_equal(images.images, expected.images)
    assert images.images[:, 0, 4, 4].tolist() == [10, 20, 30, 40, 50, 60]
    assert images.labels.tolist() == expected.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.class_names == expected.class_names == ("cat", "dog")
    assert same["sha256"].pop("archive") == hashlib.sha256(place.read_bytes()).hexdigest()
    assert same == record | {"paths": [str(place)]}


def test_an_archive_made_by_the_system_s_own_tool_is_read(tmp_path: Path) -> None:
    for name, data in pets().items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(data)
    for kind in ("zip", "tar", "gztar", "bztar", "xztar"):
        place = Path(shutil.make_archive(str(tmp_path / "made"), kind, tmp_path, "pets"))
        assert read(place)[0].class_names == ("cat", "dog")


@pytest.mark.parametrize("top", ["", "pictures/"])
@pytest.mark.parametrize("ending", [".ZIP", ".Tar.GZ"])
def test_a_flat_archive_has_no_classes(tmp_path: Path, ending: str, top: str) -> None:
    lower = packed(tmp_path / f"a{ending.lower()}", {f"{top}{number}.png": picture(number) for number in range(12)})
    images, record = read(lower.rename(tmp_path / f"a{ending}"))
    assert images.labels is None and record["per_class"] is None
    assert images.images[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]  # by name


def test_only_one_folder_is_passed_over(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", {f"pets/cat/{number}.png": picture(number) for number in range(3)})
    assert read(place)[0].class_names == ("cat",)


def test_what_a_mac_adds_to_an_archive_is_no_class(tmp_path: Path) -> None:
    litter = {f"__MACOSX/pets/cat/._{number}.png": b"resource fork" for number in range(3)} | {".DS_Store": b"x"}
    place = packed(tmp_path / "a.zip", {f"pets/{name}": data for name, data in pets().items()} | litter)
    assert read(place)[0].class_names == ("cat", "dog")


def test_names_beyond_ascii_are_classes_like_any_other(tmp_path: Path) -> None:
    members = {f"{name}/{number}.png": picture(number) for name in ("$x^2$", "Ĉevalo", "猫") for number in range(3)}
    for ending in ENDINGS:
        assert read(packed(tmp_path / f"a{ending}", members))[0].class_names == ("$x^2$", "Ĉevalo", "猫")


def test_empty_class_folder_is_told(tmp_path: Path) -> None:
    assert "class 'fox' has 0" in complaint(packed(tmp_path / "a.zip", pets() | {"fox/": b""}))


def test_layout_is_checked_as_in_folders(tmp_path: Path) -> None:
    assert "has both loose images (stray.png" in complaint(packed(tmp_path / "a.tar", pets() | {"stray.png": b""}))
    assert "has no images" in complaint(packed(tmp_path / "b.tar", {"README.md": b"none"}))
    assert "has no images" in complaint(packed(tmp_path / "c.zip", {}))
    assert "class 'fox' has 1" in complaint(packed(tmp_path / "d.tgz", pets() | {"fox/1.png": picture(1)}))


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_pictures_are_checked_as_in_folders(tmp_path: Path, ending: str) -> None:
    bad = {"cat/1.png": b"", "dog/z.png": b"<html>", "dog/small/1.png": picture(1)[:50]}
    message = complaint(packed(tmp_path / f"a{ending}", pets() | bad))
    assert "3 of 6 images" in message
    assert "cat/1.png (zero bytes: replace it); dog/small/1.png (unreadable" in message
    assert "more than max_pixels = 63" in complaint(packed(tmp_path / f"b{ending}", pets()), max_pixels=63)


# --- names


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, ending: str) -> None:
    message = complaint(packed(tmp_path / f"a{ending}", pets() | {name: picture(0)}))
    assert EVIL_NAMES[name] in message and "make the archive anew" in message
    assert len(message) < 500


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["../evil.txt", ".cache/../../evil", "__MACOSX/../../evil.png", "../evil/"])
def test_what_would_be_ignored_may_not_lead_elsewhere_either(tmp_path: Path, name: str, ending: str) -> None:
    assert "leads out of the archive" in complaint(packed(tmp_path / f"a{ending}", pets() | {name: b""}))


@pytest.mark.parametrize("name", ["d\nog", "d\x1b[31mog", "\u202egod", "d\u200bog", "d\x7fog"])
@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_an_unprintable_class_is_refused_as_in_folders(tmp_path: Path, name: str, ending: str) -> None:
    message = complaint(packed(tmp_path / f"a{ending}", pets() | {f"{name}/1.png": picture(0)}))
    assert f"the folder name {name!a}" in message and "rename it" in message


def test_a_name_that_is_no_text_is_told_in_text(tmp_path: Path) -> None:
    data = as_tar({"caf\udce9/1.png": picture(0)}, kind=tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(data)
    assert r"'caf\udce9'" in complaint(tmp_path / "a.tar")
    forged = as_zip({"cafü/1.png": picture(0)}).replace("ü".encode(), b"\xff\xff")
    (tmp_path / "a.zip").write_bytes(forged)
    assert "can't be read" in complaint(tmp_path / "a.zip")


@pytest.mark.parametrize("twin", ["cat/1.png", "./cat/1.png", "cat//1.png"])
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path, twin: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("cat/1.png", twin):
            archive.writestr(name, picture(1))
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    assert f"the member '{twin}' is there twice" in complaint(tmp_path / "a.zip")
    first, second = (as_tar({name: picture(1)}) for name in ("cat/1.png", twin))
    (tmp_path / "a.tar").write_bytes(first[: 1024 * 1] + second)
    assert f"the member '{twin}' is there twice" in complaint(tmp_path / "a.tar")


# --- kinds of members


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("cat/9.png")
    member.type, member.linkname = kind, "/etc/passwd"
    message = complaint(packed(tmp_path / "a.tgz", pets() | {"cat/9.png": member}))
    assert "the member 'cat/9.png' is a link or a device" in message


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("cat/9.png")
    member.external_attr = (kind | 0o777) << 16
    message = complaint(packed(tmp_path / "a.zip", pets() | {"cat/9.png": member}))
    assert "the member 'cat/9.png' is a link or a device" in message


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", pets())
    data = bytearray(place.read_bytes())
    directory = data.index(b"PK\1\2")
    data[directory + 8] |= 1
    place.write_bytes(data)
    assert "the member 'cat/1.png' is encrypted" in complaint(place)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", picture(0))
    assert "neither stored nor deflated" in complaint(tmp_path / "a.zip")


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"GNU.sparse.map": "0,0,99999999999,0", "GNU.sparse.size": "99999999999"}
    (tmp_path / "a.tar").write_bytes(as_tar({"a.png": member}))
    assert "the member 'a.png' is written as a sparse file" in complaint(tmp_path / "a.tar")


def forged(member: bytes, at: int, content: bytes) -> bytes:
    """A tar whose first header was altered and whose checksum fits it."""
    header = bytearray(member[:512])
    header[at : at + len(content)] = content
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + member[512:]


@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [-512, 2**40])
def test_a_tar_header_with_a_forged_size_is_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    data = forged(as_tar({"a.png": picture(0)}), 124, size.to_bytes(12, signed=True, byteorder="big"))
    if size > 0:
        data = forged(data, 124, b"\x80")
    (tmp_path / "a.tar").write_bytes(forged(data, 156, kind))
    complaint(tmp_path / "a.tar")


# --- bombs

ZEROS = bytes(2**26)


def tar_bomb(pack: Callable[[bytes], bytes], *, members: int = 5) -> bytes:
    """A tar of 320 MiB of zeros in as many members."""
    zeros, bomb = pack(ZEROS), b""
    for number in range(members):
        info = tarfile.TarInfo(f"{number}.txt" if members > 1 else "a.png")
        info.size = 5 // members * len(ZEROS)
        bomb += pack(info.tobuf()) + 5 // members * zeros
    return bomb + pack(bytes(1024))


def zip_bomb() -> bytes:
    """A zip of 30 pictures, 64 MiB of zeros each, in 2 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("00.png", ZEROS)
    data = file.getvalue()
    directory, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    files = [data[:directory].replace(b"00.png", b"%02d.png" % number) for number in range(30)]
    entries = [data[directory:end].replace(b"00.png", b"%02d.png" % number) for number in range(30)]
    entries = [e[:42] + struct.pack("<I", directory * number) + e[46:] for number, e in enumerate(entries)]
    body, listed = b"".join(files), b"".join(entries)
    return body + listed + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 30, 30, len(listed), len(body), 0)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a.tar.gz": lambda: tar_bomb(gzip.compress),
    "a.tar.bz2": lambda: tar_bomb(bz2.compress),
    "a.tar.xz": lambda: tar_bomb(lzma.compress),
    "one.tar.gz": lambda: tar_bomb(gzip.compress, members=1),
    "a.zip": zip_bomb,
}
# In a process of its own, whose peak is the archive's alone. Not by getrusage, which counts the parent's memory too.
READ = """
import re, sys
from pathlib import Path
import PIL.Image
from simulacra.data.config import ImageFolderSource
from simulacra.data.images import load_images
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
try:
    load_images(ImageFolderSource(path=Path(sys.argv[1]), size=8))
except Exception as error:
    print(type(error).__name__, error)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_takes_up_memory(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.write_bytes(BOMBS[name]())
    assert place.stat().st_size < 3e6
    done = subprocess.run([sys.executable, "-c", READ, place], capture_output=True, text=True, check=True)
    message, mebibytes = done.stdout.splitlines()
    assert message.startswith(f"SimulacraError {place}")
    assert "unpacks to more than 256 MiB" in message or "has 335544320 bytes, more than the 268435456" in message
    assert int(mebibytes) < 200
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_too_many_members_are_refused(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 8)
    message = complaint(packed(tmp_path / f"a{ending}", pets()))
    assert "has more than 8 members: if you trust it, unpack it yourself" in message


def test_a_large_picture_is_refused_by_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_size_fault", lambda name, size: "")
    monkeypatch.setattr(archives, "MAX_PICTURE", 2**20)
    place = packed(tmp_path / "a.zip", pets() | {"cat/1.png": ZEROS[: 2**21]})
    assert "the member 'cat/1.png' unpacks to more than the 1048576 bytes of a picture" in complaint(place)


# --- damage


def test_another_kind_than_its_name_says_is_told(tmp_path: Path) -> None:
    data = as_zip(pets())
    for ending in PACKED:
        (tmp_path / f"a{ending}").write_bytes(data)
        assert "can't be read, it may be truncated or damaged" in complaint(tmp_path / f"a{ending}")
    for content in (b"", b"<html>not found</html>", as_tar(pets())):
        (tmp_path / "a.zip").write_bytes(content)
        assert "can't be read, it may be truncated or damaged" in complaint(tmp_path / "a.zip")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cut_archive_is_told_wherever_it_ends(tmp_path: Path, ending: str) -> None:
    place = packed(tmp_path / f"a{ending}", pets())
    data = place.read_bytes()
    end = data.rindex(picture(60)) + 512 if ending == ".tar" else len(data) - 1  # the rest of a tar is padding
    for length in {*range(0, end, 512), *RNG.integers(0, end, 20)}:
        place.write_bytes(data[:length])
        complaint(place)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flipped_bit_never_gives_other_images(tmp_path: Path, ending: str) -> None:
    place = packed(tmp_path / f"a{ending}", pets())
    data, whole = place.read_bytes(), read(place)[0]
    refused = 0
    for position in RNG.integers(0, 8 * len(data), 150):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        place.write_bytes(flipped)
        try:
            images, _ = read(place)
        except SimulacraError:
            refused += 1
        else:
            assert np.array_equal(images.images, whole.images) and images.class_names == whole.class_names
    assert refused > 15

"""Damaged, forged and enormous inputs: refused by name in one message, in little memory, earlier results kept."""

import gzip
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from simulacra.data.config import FashionMnistSource, ImageFolderSource, Source
from simulacra.data.idx import FASHION_MNIST_SHA256
from simulacra.data.images import load_images
from simulacra.errors import SimulacraError

Run = Callable[..., subprocess.CompletedProcess[str]]
RNG = np.random.default_rng(0)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8))).save(file, kind, **options)
    return file.getvalue()


def png(side: int, *chunks: tuple[bytes, bytes], data: bytes = b"\0" * 64) -> bytes:
    """A PNG that claims side × side pixels, holds what it is told to, and has further chunks."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def nan_tiff() -> bytes:
    return encoded("TIFF", Image.fromarray(np.full((8, 8), np.nan, np.float32)))


def patched(data: bytes, at: int, content: bytes) -> bytes:
    return data[:at] + content + data[at + len(content) :]


def tiff(side: int) -> bytes:
    """A TIFF of one strip of 64 bytes that claims side × side pixels."""
    entries = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 122), (277, 1), (278, side), (279, 64)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + bytes(64)


def gif(n_frames: int) -> bytes:
    """A GIF of so many frames of 8 × 8 pixels, shade 9."""
    whole = encoded("GIF", Image.new("L", (8, 8), 9))
    start = 13 + 3 * (2 << (whole[10] & 7)) * (whole[10] >> 7)
    return whole[:start] + whole[start:-1] * n_frames + b";"


def animated_webp() -> bytes:
    frames = [Image.new("RGB", (8, 8), (shade,) * 3) for shade in (9, 200)]
    return encoded("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=True)


def jpeg(side: int) -> bytes:
    data = encoded("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", side, side))


TEXT_BOMB = b"Comment\0\0" + zlib.compress(bytes(2**28))
PROFILE_BOMB = b"profile\0\0" + zlib.compress(bytes(2**28))
BOMBS = {
    "bmp.bmp": (
        lambda: patched(encoded("BMP"), 18, struct.pack("<ii", 50_000, 50_000)),
        "more than max_pixels = 50000000",
    ),
    "gif.gif": (lambda: patched(gif(1), 6, b"\xff\xff\xff\xff"), "more than max_pixels = 50000000"),
    "jpeg.jpg": (lambda: jpeg(65_500), "more than max_pixels = 50000000"),
    "png.png": (lambda: png(50_000), "more than max_pixels = 50000000"),
    "profile.png": (lambda: png(8, (b"iCCP", PROFILE_BOMB)), "unreadable"),
    "text.png": (lambda: png(8, (b"zTXt", TEXT_BOMB)), "unreadable"),
    "tiff.tif": (lambda: tiff(50_000), "more than max_pixels = 50000000"),
    "webp.webp": (lambda: patched(animated_webp(), 24, b"\xff\x3f\0\xff\x3f\0"), "more than max_pixels = 50000000"),
}
# In a process of its own, whose peak is its own. Not by getrusage, which counts the parent's memory too.
READ = """
import re, sys
from pathlib import Path
import PIL.Image
from pydantic import TypeAdapter
from simulacra.data.config import Source
from simulacra.data.images import load_images
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
try:
    load_images(TypeAdapter(Source).validate_json(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
print(peak() - before)
"""


def read_apart(source: Source) -> tuple[str, int]:
    """What loading a source says, and how many MiB it takes, in a process of its own."""
    command = [sys.executable, "-c", READ, source.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    message, mebibytes = done.stdout.splitlines()
    return message, int(mebibytes)


def flat(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder of these files, and of as many plain images as any folder needs."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {f"z{number}.png": encoded("PNG", Image.new("L", (8, 8), 7)) for number in range(3)}
    for name, data in (files | plain).items():
        (folder / name).write_bytes(data)
    return folder


def first(folder: Path) -> tuple[np.ndarray, dict[str, int]]:
    images, record = load_images(ImageFolderSource(path=folder, size=8, colour="grey"))
    return images.images[0, 0], record["remarks"]


# --- images, by the reader


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_image_bombs_take_up_no_memory(tmp_path: Path) -> None:
    folder = flat(tmp_path, {name: make() for name, (make, _) in BOMBS.items()})
    message, mebibytes = read_apart(ImageFolderSource(path=folder, size=8))
    assert message.startswith(f"SimulacraError {len(BOMBS)} of {len(BOMBS) + 3} images in {folder} can't be used: ")
    told = message.split("used: ")[1].split("; ")
    for (name, (_, words)), line in zip(BOMBS.items(), told, strict=True):
        assert line.startswith(f"{name} (") and words in line
    assert mebibytes < 40


def test_a_million_frames_cost_no_more_than_two(tmp_path: Path) -> None:
    folder = flat(tmp_path, {"a.gif": gif(1_000_000)})
    began = time.perf_counter()
    image, remarks = first(folder)
    assert time.perf_counter() - began < 2
    assert (image == 9).all() and remarks["first_frame_only"] == 1


def test_the_first_frame_of_an_animated_webp_is_read(tmp_path: Path) -> None:
    image, remarks = first(flat(tmp_path, {"a.webp": animated_webp()}))
    assert (image == 9).all() and remarks["first_frame_only"] == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",  # no directory
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",  # 65,535 entries, none there
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",  # orientation 99
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0\0\0\0\0",  # orientation "six"
        b"garbage",
    ],
)
def test_damaged_exif_data_leave_the_image_as_it_lies(tmp_path: Path, kind: str, exif: bytes) -> None:
    half = np.repeat(np.array([[20], [220]], np.uint8), 4, axis=0).repeat(8, axis=1)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(kind, Image.fromarray(half), exif=exif, **options)
    image, remarks = first(flat(tmp_path, {f"a.{kind.lower()}": data}))
    assert np.abs(image.astype(int) - half).max() <= 3
    assert remarks.get("exif_unreadable", 0) <= 1


# --- Fashion-MNIST's files

TRAIN_IMAGES = f"{next(iter(FASHION_MNIST_SHA256))}.gz"


def zipped(data: bytes) -> bytes:
    """Compress without the present time, by which one collection of the tests would differ from another."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(b"\0\0\x08\3") + b"and more", "truncated or damaged"),
        (zipped(b"\0\0\x08\3" + bytes(100))[:20], "truncated or damaged"),
        (
            zipped(struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(9)),
            "should have 24 bytes for its shape (2, 2, 2)",
        ),
        (zipped(struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(8)), "not the original file"),
    ],
)
def test_forged_idx_files_are_refused_by_name(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / TRAIN_IMAGES).write_bytes(data)
    with pytest.raises(SimulacraError) as caught:
        load_images(FashionMnistSource(path=tmp_path))
    assert f"{tmp_path / TRAIN_IMAGES}" in str(caught.value) and words in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_gzip_bomb_for_an_idx_file_is_refused_early(tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(2**26))
    (tmp_path / TRAIN_IMAGES).write_bytes(gzip.compress(b"\0\0\x08\3") + 32 * zeros)  # 2 GiB
    message, mebibytes = read_apart(FashionMnistSource(path=tmp_path))
    assert f"{tmp_path / TRAIN_IMAGES} holds more than 67108864 bytes" in message
    assert mebibytes < 200


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_IMAGES.removesuffix(".gz")])
def test_a_pipe_in_the_place_of_an_idx_file_blocks_nobody(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SimulacraError, match=f"{name} is missing"):
        load_images(FashionMnistSource(path=tmp_path))


# --- by the command


def results(project: Path) -> dict[str, bytes]:
    root = project / "data/test"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("0*/**/*")) if path.is_file()}


def statuses(project: Path) -> list[tuple[str, str]]:
    """Status and error of every run of the command below, oldest first."""
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    experiment = client.get_experiment_by_name("simulacra")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [(run.info.status, run.data.tags.get("error", "")) for run in runs]


def test_bad_pictures_end_in_one_message_and_leave_earlier_results_alone(fresh_project: Path, kedro: Run) -> None:
    pictures = fresh_project / "pictures"
    good = {f"{number:03}.png": encoded("PNG") for number in range(110)}
    flat(pictures, good)
    command = ["run", "--env", "test", "--pipelines", "ingest,preprocess", "--namespaces", "image_folder", "--params"]
    kedro(fresh_project, *command, "image_folder.source.path=pictures,image_folder.source.size=8")
    before = results(fresh_project)
    assert before

    bad = {
        "a.png": png(50_000),
        "b.png": encoded("PNG")[:-600],
        "c.png": b"",
        "d.png": b"a text by the name of an image\n",
        "e.jpg": encoded("JPEG")[:-300],
        "f.tif": nan_tiff(),
    }
    flat(pictures, bad)
    done = kedro(fresh_project, *command, "image_folder.source.path=pictures,image_folder.source.size=8", code=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert (
        "6 of 119 images in pictures can't be used: a.png (more than max_pixels = 50000000 pixels: shrink it)"
        in errors[0]
    )
    for words in (
        "b.png (unreadable",
        "c.png (zero bytes",
        "d.png (no PNG",
        "e.jpg (unreadable",
        "f.tif (64 of 64 pixels",
    ):
        assert words in errors[0]
    assert results(fresh_project) == before
    (first_status, _), (second_status, error) = statuses(fresh_project)
    assert (first_status, second_status) == ("FINISHED", "FAILED") and "a.png" in error

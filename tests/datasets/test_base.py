from pathlib import Path

import pytest
from kedro.io import DatasetError

from simulacra import files
from simulacra.datasets import SealedDataset
from simulacra.errors import SimulacraError
from simulacra.incremental import Unchanged


class Words(SealedDataset[str]):
    """A text file, of a size that it claims."""

    size = 0

    def _read(self, path: Path) -> str:
        return path.read_text()

    def _write(self, path: Path, data: str) -> None:
        path.write_text(data)

    def _need(self, data: str) -> int:
        return self.size


@pytest.fixture
def words(tmp_path: Path) -> Words:
    return Words(str(tmp_path / "words.txt"))


def test_what_was_saved_exists_has_a_fingerprint_and_returns(words: Words) -> None:
    assert not words.exists() and words.fingerprint() is None
    words.save("hello")
    assert words.exists() and words.load() == "hello"
    assert words.fingerprint() == files.check(words._filepath)


def test_what_is_unchanged_is_not_written_again(words: Words) -> None:
    words.save(Unchanged("0" * 64))
    assert not words.exists()
    words.save("hello")
    before = words._filepath.stat()
    words.save(Unchanged(words.fingerprint()))
    assert words._filepath.stat() == before


def test_half_a_file_does_not_exist_and_is_refused_by_name(words: Words) -> None:
    words.save("hello")
    words._filepath.write_text("hel")
    assert not words.exists() and words.fingerprint() is None
    with pytest.raises(DatasetError, match=r"words\.txt is damaged: it has 3 bytes and was written with 5") as caught:
        words.load()
    assert isinstance(caught.value.__cause__, SimulacraError)


def test_a_file_that_is_not_there_is_named(words: Words) -> None:
    with pytest.raises(DatasetError, match=r"words\.txt is not there yet; run the stage that makes it first"):
        words.load()


def test_a_whole_file_that_cannot_be_understood_is_named_with_the_reason_and_the_remedy(words: Words) -> None:
    files.write(words._filepath, lambda path: path.write_bytes(b"\xff\xff"))
    with pytest.raises(DatasetError, match=r"words\.txt was written by another version.*utf-8.*force=true") as caught:
        words.load()
    assert isinstance(caught.value.__cause__, SimulacraError)


def test_space_is_asked_for_before_anything_is_written(words: Words) -> None:
    words.save("hello")
    words.size = 2**60
    with pytest.raises(DatasetError, match=r"words\.txt needs 1,099,511,627,776 MiB") as caught:
        words.save("goodbye")
    assert isinstance(caught.value.__cause__, SimulacraError) and words.load() == "hello"


def test_a_save_that_fails_leaves_the_former_file(words: Words) -> None:
    words.save("hello")
    with pytest.raises(DatasetError):
        words.save(3)
    assert words.load() == "hello"

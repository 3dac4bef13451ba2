import codecs
from pathlib import Path
from typing import Any

import pytest

from simulacra.data import text_set, texts
from simulacra.data.config import PydocSource, TextFilesSource, TinyShakespeareSource
from simulacra.data.texts import load_texts
from simulacra.errors import SimulacraError


def written(folder: Path, **files: bytes | str) -> Path:
    for name, content in files.items():
        (folder / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(place: Path, **options: Any) -> list[str]:
    return list(load_texts(TextFilesSource(path=place, **options))[0])


@pytest.fixture(params=[3, 7, 2**20])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Files are read in parts as small as this."""
    monkeypatch.setattr(texts, "PART", request.param)
    monkeypatch.setattr(text_set, "PART", request.param)
    return request.param


def test_files_of_a_folder_are_documents_in_order_of_their_names(tmp_path: Path, part: int) -> None:
    written(tmp_path, b="zwei — größer\n", a="one", c="三つ目 🎲\n\n")
    (tmp_path / "more").mkdir()
    written(tmp_path / "more", d="four")
    written(tmp_path, **{".hidden": "no"})
    (tmp_path / "note.md").write_text("no")
    found, record = load_texts(TextFilesSource(path=tmp_path))
    assert list(found) == ["one", "zwei — größer\n", "三つ目 🎲\n\n", "four"]
    assert record["n"] == 4 and record["characters"] == 3 + 14 + 7 + 4 and record["bytes"] == found.n_bytes
    assert found.alphabet == "".join(sorted(set("".join(found)))) and record["alphabet"] == len(found.alphabet)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (codecs.BOM_UTF8 + b"one", "one"),
        (b"a\r\nb\rc\n\r\nd\r", "a\nb\nc\n\nd\n"),
        (b"\r\n\r\n", "\n\n"),
        ("\u2028é\x0b".encode(), "\u2028é\x0b"),
        (codecs.BOM_UTF8 + "x\ufeffy".encode(), "x\ufeffy"),
    ],
)
def test_marks_and_line_ends_are_made_alike(tmp_path: Path, part: int, raw: bytes, text: str) -> None:
    assert read(written(tmp_path, a=raw)) == [text]


def test_what_was_done_is_counted(tmp_path: Path) -> None:
    written(tmp_path, a=codecs.BOM_UTF8 + b"a\r\nb\xffc\r\n")
    _, record = load_texts(TextFilesSource(path=tmp_path, errors="replace"))
    assert record["remarks"] == {"byte_order_marks": 1, "line_ends_changed": 2, "characters_replaced": 1}


@pytest.mark.parametrize("before", ["", "abc", "é" * 5])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82", b"\xc3(", b"\xed\xa0\x80"])
def test_bytes_that_are_no_utf8_are_named_or_replaced(tmp_path: Path, part: int, before: str, bad: bytes) -> None:
    place = written(tmp_path, a=before.encode() + bad + b" after")
    with pytest.raises(SimulacraError, match=rf"a\.txt is no UTF-8 at byte {len(before.encode())}: .*errors: replace"):
        read(place)
    (text,) = read(place, errors="replace")
    assert text == (before.encode() + bad + b" after").decode(errors="replace")


def test_a_character_that_is_cut_off_at_the_end_is_named(tmp_path: Path, part: int) -> None:
    with pytest.raises(SimulacraError, match="is no UTF-8 at byte 2: unexpected end of data"):
        read(written(tmp_path, a=b"ab\xe2\x82"))


def test_what_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError, match="has a NUL at byte 3"):
        read(written(tmp_path, a=b"abc\0def"))
    with pytest.raises(SimulacraError, match="is written in UTF-16; save it in UTF-8"):
        read(written(tmp_path, a="abc".encode("utf-16")))
    with pytest.raises(SimulacraError, match=r"a\.txt is empty; fill it, or take it out of the folder"):
        read(written(tmp_path, a=b""))
    with pytest.raises(SimulacraError, match=r"a\.txt is empty"):
        read(written(tmp_path, a=codecs.BOM_UTF8))


def test_a_place_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError, match=r"holds no file that fits source\.pattern '\*\.txt'"):
        read(tmp_path)
    with pytest.raises(SimulacraError, match="there is no file or folder"):
        read(tmp_path / "none")
    (tmp_path / "any.log").write_text("x")
    assert read(tmp_path / "any.log") == ["x"], "a file that is named is read, whatever its name ends in"


@pytest.mark.parametrize("separator", ["\n", "\n\n", "<|end|>"])
def test_separators_part_documents(tmp_path: Path, part: int, separator: str) -> None:
    place = written(tmp_path, a=separator.join(["one", "zwei é", "", "three"]) + separator, b="four")
    assert read(place, separator=separator) == ["one", "zwei é", "three", "four"]
    with pytest.raises(SimulacraError, match="no text between the separators"):
        read(written(tmp_path, a=separator, b=separator * 2), separator=separator)


def test_one_long_line_is_read_in_parts(tmp_path: Path) -> None:
    """As its size is a multiple of the parts', the last one is empty."""
    content = "0123456789abcdef" * 2**16 * 3
    found, record = load_texts(TextFilesSource(path=written(tmp_path, a=content)))
    assert record["bytes"] == len(content) and found[0] == content


def test_pydoc_is_prose_in_documents() -> None:
    found, record = load_texts(PydocSource())
    assert len(found) > 50 and record["characters"] > 300_000
    assert all(text.endswith("\n") and text[0] not in " \n" for text in found)
    assert any("assignment" in text for text in found)


def test_another_text_is_not_tiny_shakespeare(tmp_path: Path) -> None:
    written(tmp_path, a="First Citizen:\nBefore we proceed any further, hear me speak.\n")
    with pytest.raises(SimulacraError, match=r"a\.txt is not tiny-shakespeare: its sha256 begins with .* 86c4e6aa"):
        load_texts(TinyShakespeareSource(path=tmp_path / "a.txt"))
    with pytest.raises(SimulacraError, match=r"is missing and source\.download is false"):
        load_texts(TinyShakespeareSource(path=tmp_path / "b.txt", download=False))

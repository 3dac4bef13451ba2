"""Readers of text datasets: every source becomes one checked `TextSet` and a record of what was read."""

import codecs
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from simulacra.data.config import PydocSource, TextFilesSource, TextSource, TinyShakespeareSource
from simulacra.data.text_set import PART, FileBytes, TextSet, texts_of
from simulacra.errors import SimulacraError

Record = dict[str, Any]

TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINY_SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
OTHER_ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def load_texts(source: TextSource) -> tuple[TextSet, Record]:
    """Read the documents that a source stands for.

    Args:
        source: one of the text sources of `simulacra.data.config`.

    Returns:
        The documents, and the ingest record, fit for JSON: `source` (its type), `paths`, `sha256` of the text, counts
        of documents, bytes and characters, size of the alphabet, and `remarks`, counts of what was done to the text.

    Raises:
        SimulacraError: where files are missing, damaged or no text; names them, and where in them.
    """
    return READERS[type(source)](source)


def read_pydoc(source: PydocSource) -> tuple[TextSet, Record]:
    """Return the topics of Python's own help, English prose about the language, and their record."""
    from pydoc_data.topics import topics

    texts = texts_of([text.strip() + "\n" for _, text in sorted(topics.items()) if text.strip()])
    return texts, _record(source, ["pydoc_data.topics"], texts, {})


def read_tiny_shakespeare(source: TinyShakespeareSource) -> tuple[TextSet, Record]:
    """Return tiny-shakespeare, one document, and its record.

    Raises:
        SimulacraError: where it is not there and cannot be downloaded, or is another text.
    """
    path = source.path.expanduser()
    if not path.is_file():
        path = _downloaded(source)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != TINY_SHAKESPEARE_SHA256:
        raise SimulacraError(
            f"{path} is not tiny-shakespeare: its sha256 begins with {found[:8]} where {TINY_SHAKESPEARE_SHA256[:8]} "
            "was expected. Delete it, or read it as a text of your own by source.type: text_files"
        )
    texts = texts_of([path.read_text(encoding="utf-8")])
    return texts, _record(source, [str(path)], texts, {})


def _downloaded(source: TinyShakespeareSource) -> Path:
    from torchvision.datasets.utils import download_url

    if not source.download:
        raise SimulacraError(f"{source.path} is missing and source.download is false; put tiny-shakespeare there")
    place = source.download_to / "tinyshakespeare.txt"
    if not place.is_file():
        try:
            download_url(TINY_SHAKESPEARE_URL, str(place.parent), place.name)
        except (OSError, RuntimeError) as error:
            raise SimulacraError(
                f"tiny-shakespeare (1.1 MB) could not be downloaded from {TINY_SHAKESPEARE_URL} ({error}); "
                f"put it at {source.path}, or set source.path"
            ) from error
    return place


def read_text_files(source: TextFilesSource) -> tuple[TextSet, Record]:
    """Return the user's own texts, a document a file or what stands between separators, and their record.

    A byte order mark is left out and line ends are those of Unix. Any file may be larger than memory.

    Raises:
        SimulacraError: where there is none, one is empty or no UTF-8 text; names the file and the byte.
    """
    place = source.path.expanduser()
    paths = sorted(_files(place, source.pattern))
    if not paths:
        raise SimulacraError(f"{place} holds no file that fits source.pattern {source.pattern!r}; correct one of them")
    remarks = {"byte_order_marks": 0, "line_ends_changed": 0, "characters_replaced": 0}
    spans, letters, place_in_content = [], set[str](), 0
    with tempfile.NamedTemporaryFile(delete=False) as scratch:
        for path in paths:
            start = place_in_content
            for text in _decoded(path, source.errors, remarks):
                letters.update(text)
                place_in_content += scratch.write(text.encode())
            if place_in_content == start:
                raise SimulacraError(f"{path} is empty; fill it, or take it out of the folder")
            spans.append((start, place_in_content))
    content = FileBytes(Path(scratch.name))
    # An open file stays readable without its name, and is gone with the process.
    Path(scratch.name).unlink()
    texts = TextSet(content, np.array(spans, np.int64), "".join(sorted(letters)))
    if source.separator:
        texts = _separated(texts, source.separator)
    return texts, _record(source, [str(path) for path in paths], texts, remarks)


def _files(place: Path, pattern: str) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        raise SimulacraError(f"there is no file or folder {place}; correct source.path")
    for path in place.rglob(pattern):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place).parts):
            yield path


def _decoded(path: Path, errors: str, remarks: dict[str, int]) -> Iterator[str]:
    """Yield a file's text in parts, whatever its size and however long its lines are."""
    try:
        with path.open("rb") as file:
            yield from _parts(path, file, errors, remarks)
    except OSError as error:
        raise SimulacraError(f"{path} cannot be read: {error.strerror or error}") from error


def _parts(path: Path, file: BinaryIO, errors: str, remarks: dict[str, int]) -> Iterator[str]:
    decoder, read, held = codecs.getincrementaldecoder("utf-8")("strict"), 0, ""
    for part in iter(lambda: file.read(PART), b""):
        if not read and part[:2] in OTHER_ENCODINGS:
            raise SimulacraError(f"{path} is written in {OTHER_ENCODINGS[part[:2]]}; save it in UTF-8")
        if not read and part.startswith(codecs.BOM_UTF8):
            remarks["byte_order_marks"] += 1
        if b"\0" in part:
            raise SimulacraError(
                f"{path} has a NUL at byte {read + part.index(0):,}, which no text has; take it out of the folder if "
                "it is no text"
            )
        text = held + _decode(decoder, part, path, read, errors, remarks, final=len(part) < PART)
        read += len(part)
        # A carriage return at the end may be half of a line end.
        held = "\r" if text.endswith("\r") else ""
        yield _with_line_ends(text[: len(text) - len(held)], remarks).removeprefix("\ufeff" if read <= PART else "")
    if held:
        yield _with_line_ends(held, remarks)


def _decode(
    decoder: codecs.IncrementalDecoder,
    part: bytes,
    path: Path,
    read: int,
    errors: str,
    remarks: dict[str, int],
    *,
    final: bool,
) -> str:
    before, _ = decoder.getstate()
    try:
        return decoder.decode(part, final)
    except UnicodeDecodeError as error:
        place = read - len(before) + error.start
        if errors != "replace":
            raise SimulacraError(
                f"{path} is no UTF-8 at byte {place:,}: {error.reason} ({error.object[error.start]:#04x}). Save it in "
                "UTF-8, or set source.errors: replace"
            ) from error
    decoder.reset()
    replacing = codecs.getincrementaldecoder("utf-8")("replace")
    text = replacing.decode(before + part, final)
    remarks["characters_replaced"] += text.count("\ufffd")
    decoder.setstate(replacing.getstate())
    return text


def _with_line_ends(text: str, remarks: dict[str, int]) -> str:
    remarks["line_ends_changed"] += text.count("\r")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separated(texts: TextSet, separator: str) -> TextSet:
    """Return what stands between separators as documents of their own, without them."""
    mark, spans = separator.encode(), []
    for start, end in texts.spans.tolist():
        ends = [*_places(texts, mark, start, end), end]
        begins = [start, *(place + len(mark) for place in ends[:-1])]
        spans += [(begin, stop) for begin, stop in zip(begins, ends, strict=True) if begin < stop]
    return TextSet(texts.content, np.array(spans, np.int64).reshape(-1, 2), texts.alphabet)


def _places(texts: TextSet, mark: bytes, start: int, end: int) -> Iterator[int]:
    """Yield where a mark begins between two places."""
    while start < end:
        part = texts.content[start : min(start + PART + len(mark) - 1, end)]
        last = 0
        while (found := part.find(mark, last)) >= 0:
            yield start + found
            last = found + len(mark)
        start += max(min(PART, len(part)), last)


def _record(source: TextSource, paths: list[str], texts: TextSet, remarks: Mapping[str, int]) -> Record:
    """Return the ingest record."""
    if not len(texts):
        raise SimulacraError(f"{', '.join(paths)}: there is no text between the separators; correct source.separator")
    digest, characters = hashlib.sha256(), 0
    for _, part in texts.parts():
        digest.update(part)
        # Bytes that begin a character: all but those of the form 10xxxxxx.
        characters += int(np.count_nonzero(np.frombuffer(part, np.uint8) & 0xC0 != 0x80))
    return {
        "source": source.type,
        "paths": paths,
        "sha256": {"text": digest.hexdigest()},
        "n": len(texts),
        "bytes": texts.n_bytes,
        "characters": characters,
        "alphabet": len(texts.alphabet),
        "remarks": dict(remarks),
    }


READERS: dict[type, Callable[[Any], tuple[TextSet, Record]]] = {
    PydocSource: read_pydoc,
    TinyShakespeareSource: read_tiny_shakespeare,
    TextFilesSource: read_text_files,
}

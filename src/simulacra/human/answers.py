"""Read answers strictly: the files of a study's page, with its key, or any CSV file whose columns are described."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simulacra.errors import SimulacraError
from simulacra.human.config import ColumnsConfig
from simulacra.human.study import ANSWERS, NOISE, REAL

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("study", "rater", "trial", "answer", "milliseconds")
"""Columns of the files that a study's page writes."""
MOST_ANSWERS = 5_000_000
ONE_FAMILY = "generated"
"""Name of the family where a file does not name any."""


class Answer(NamedTuple):
    """One answer, and what it was given to.

    Args:
        rater: empty where it is not known.
        unit: what several raters may have judged; empty where it is not known.
        mode: a key of `ANSWERS`.
        left: what was shown: a family, REAL or NOISE.
        right: what was shown on the right of it; empty in `real_or_fake`.
        answer: one of the mode's.
        seconds: NaN where it is not known.
        expected: the right answer of an attention check; empty for a question.
    """

    rater: str
    unit: str
    mode: str
    left: str
    right: str
    answer: str
    seconds: float
    expected: str


class Row(NamedTuple):
    """One row of a CSV file, and where it stands, for messages."""

    place: str
    values: Mapping[str, str]

    def name(self, column: str) -> str:
        """Return a name in a column.

        Raises:
            SimulacraError: where there is none.
        """
        word = self.values[column].strip()
        if word in ("", REAL, NOISE):
            raise SimulacraError(f"{self.place}: {column} is {word!r}, which is no name: correct the row")
        return word

    def pick(self, column: str, meanings: Mapping[str, str]) -> str:
        """Return what a word in a column means.

        Raises:
            SimulacraError: where it means nothing.
        """
        word = self.values[column].strip()
        if word not in meanings:
            known = ", ".join(repr(each) for each in meanings)
            raise SimulacraError(f"{self.place}: {column} is {word[:40]!r}, which is none of {known}: correct the row")
        return meanings[word]

    def number(self, column: str) -> float:
        """Return a finite number that is not below 0.

        Raises:
            SimulacraError: where there is none.
        """
        try:
            value = float(self.values[column])
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            said = self.values[column][:40]
            raise SimulacraError(f"{self.place}: {column} is {said!r} and must be a number from 0 up: correct the row")
        return value

    def count(self, column: str) -> int:
        """Return a whole number that is not below 0.

        Raises:
            SimulacraError: where there is none.
        """
        value = self.number(column)
        if value != int(value):
            raise SimulacraError(f"{self.place}: {column} is {value:g} and must be a whole number: correct the row")
        return int(value)


def read_answers(place: Path, key: Mapping[str, Any] | None, columns: ColumnsConfig | None) -> "DataFrame":
    """Return all answers of a file, or of all CSV files in a folder; one column a field of `Answer`.

    Args:
        place: file or folder.
        key: of the study; None where `columns` says what is in the file.
        columns: how to read another format; None for the files of a study's page.

    Raises:
        SimulacraError: for whatever a file should not hold; names file and row.
    """
    import pandas as pd

    if columns is None and key is None:
        raise SimulacraError(
            "there is no key of a study: `kedro run --pipeline human_study` makes page and key; "
            "answers from elsewhere need human_results.columns"
        )
    answers: list[Answer] = []
    given: dict[tuple[str, str], str] = {}
    for path in answer_files(place):
        for where, answer in _own(path, key or {}) if columns is None else _mapped(path, columns):
            _refuse_twice(answer, where, given)
            answers.append(answer)
    return pd.DataFrame(answers, columns=list(Answer._fields))


def answer_files(place: Path) -> list[Path]:
    """Return the file, or the CSV files of a folder.

    Raises:
        SimulacraError: where there is none.
    """
    if place.is_file():
        return [place]
    files = sorted(path for path in place.glob("*") if path.suffix.lower() == ".csv" and path.is_file())
    if not files:
        fault = "has no CSV file" if place.is_dir() else "does not exist"
        raise SimulacraError(
            f"{place} {fault}: put the answers of raters there, or name their place by human_results.answers"
        )
    return files


def _rows(path: Path, needed: Sequence[str], delimiter: str = ",") -> Iterator[Row]:
    """Yield the rows of a CSV file, each with all columns of the header.

    Raises:
        SimulacraError: where it is no CSV file of UTF-8, lacks a column or has no rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            _check_header(path, header, needed)
            empty = True
            for cells in filter(None, reader):
                empty = False
                where = f"{path}, row {reader.line_num}"
                if len(cells) != len(header):
                    raise SimulacraError(f"{where} has {len(cells)} columns, the first row {len(header)}: correct it")
                yield Row(where, dict(zip(header, cells, strict=True)))
    except UnicodeDecodeError as error:
        raise SimulacraError(f"{path} is no text in UTF-8: save it as such") from error
    except csv.Error as error:
        raise SimulacraError(f"{path}, row {reader.line_num} cannot be read as CSV: {error}") from error
    except OSError as error:
        raise SimulacraError(f"{path} cannot be read: {error.strerror}") from error
    if empty:
        raise SimulacraError(f"{path} has no answers, only a header: move the file away")


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    if not header:
        raise SimulacraError(f"{path} is empty: move the file away")
    for column in needed:
        if header.count(column) != 1:
            fault = f"lacks the column {column!r}" if column not in header else f"has the column {column!r} twice"
            there = ", ".join(header)[:200]
            raise SimulacraError(f"{path} {fault}; row 1 has {there}: correct it, or set human_results.columns")


def _own(path: Path, key: Mapping[str, Any]) -> Iterator[tuple[str, Answer]]:
    """Yield the answers in a file that a study's page wrote."""
    trials = key["trials"]
    for row in _rows(path, COLUMNS):
        study, trial_id = row.values["study"].strip(), row.values["trial"].strip()
        if study != key["study"]:
            raise SimulacraError(
                f"{row.place}: the answer is to study {study[:40]!r}, the key is of study {key['study']!r}: move away "
                "what belongs to an earlier page"
            )
        if trial_id not in trials:
            raise SimulacraError(f"{row.place}: the study has no trial {trial_id[:40]!r}: correct the row")
        trial = trials[trial_id]
        left, right = [*(shown["source"] for shown in trial["shown"]), ""][:2]
        answer = row.pick("answer", {word: word for word in ANSWERS[trial["mode"]]})
        seconds = row.number("milliseconds") / 1000
        expected = trial["expected"] or ""
        yield row.place, Answer(row.name("rater"), trial_id, trial["mode"], left, right, answer, seconds, expected)


def _mapped(path: Path, columns: ColumnsConfig) -> Iterator[tuple[str, Answer]]:
    """Yield the answers in a file of another format."""
    names = ("shown", "family", "image", "said", "rater", "time", "count", "count_generated")
    needed = [column for name in names if (column := getattr(columns, name)) is not None]
    kinds = _meanings(columns.real, columns.generated)
    n = 0
    for row in _rows(path, needed, columns.delimiter):
        kind = row.pick(columns.shown, kinds)
        shown = REAL if kind == "real" else row.name(columns.family) if columns.family else ONE_FAMILY
        # Real images may be shown beside those of one family at a time, to raters of their own.
        beside = row.values[columns.family].strip() if columns.family else ONE_FAMILY
        unit = f"{kind}/{beside}/{row.name(columns.image)}" if columns.image else ""
        rater = row.name(columns.rater) if columns.rater else ""
        answer = Answer(rater, unit, "real_or_fake", shown, "", "", _seconds(row, columns), "")
        for said, times in _said(row, columns).items():
            n += times
            if n > MOST_ANSWERS:
                raise SimulacraError(f"{row.place}: there are more than {MOST_ANSWERS:,} answers: give fewer at once")
            yield from [(row.place, answer._replace(answer=said))] * times


def _said(row: Row, columns: ColumnsConfig) -> dict[str, int]:
    """Return how often each answer was given in a row."""
    if columns.count is None or columns.count_generated is None:
        meanings = _meanings(columns.said_real or columns.real, columns.said_generated or columns.generated)
        return {row.pick(str(columns.said), meanings): 1}
    n, generated = row.count(columns.count), row.count(columns.count_generated)
    if generated > n:
        raise SimulacraError(
            f"{row.place}: {columns.count_generated} is {generated} of {n} answers in {columns.count}: correct the row"
        )
    return {"generated": generated, "real": n - generated}


def _seconds(row: Row, columns: ColumnsConfig) -> float:
    if columns.time is None or not row.values[columns.time].strip():
        return math.nan
    return row.number(columns.time) / (1000 if columns.time_unit == "milliseconds" else 1)


def _meanings(real: Sequence[str], generated: Sequence[str]) -> dict[str, str]:
    return dict.fromkeys(real, "real") | dict.fromkeys(generated, "generated")


def _refuse_twice(answer: Answer, where: str, given: dict[tuple[str, str], str]) -> None:
    """Refuse a second answer of one rater to one question: a file may have come twice."""
    asked = (answer.rater, answer.unit)
    if not all(asked):
        return
    if asked in given:
        raise SimulacraError(
            f"{where}: rater {answer.rater!r} answered {answer.unit!r} before, in {given[asked]}: is a file there "
            "twice, or do two raters share a name?"
        )
    given[asked] = where

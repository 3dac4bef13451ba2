from pathlib import Path

import pytest
from kedro.io import DatasetError

from simulacra import files
from simulacra.datasets import HistoryDataset
from simulacra.datasets.history import KEPT


def test_records_add_up_and_a_file_that_is_not_there_holds_none(tmp_path: Path) -> None:
    history = HistoryDataset(str(tmp_path / "log.json"))
    assert history.load() == [] and history.exists()
    for number in range(3):
        history.save({"number": number})
    assert history.load() == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_record_takes_the_place_of_the_one_with_its_key(tmp_path: Path) -> None:
    history = HistoryDataset(str(tmp_path / "log.json"), key="tick")
    for tick, number in [("a", 0), (None, 1), ("b", 2), (None, 3), ("a", 4)]:
        history.save({"tick": tick, "number": number})
    assert [record["number"] for record in history.load()] == [1, 2, 3, 4]


def test_the_oldest_leave_first(tmp_path: Path) -> None:
    history = HistoryDataset(str(tmp_path / "log.json"))
    files.write(tmp_path / "log.json", lambda scratch: scratch.write_text(str(list(range(KEPT)))))
    history.save(KEPT)
    assert len(history.load()) == KEPT and history.load()[-1] == KEPT and history.load()[0] == 1


def test_what_json_cannot_hold_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    history = HistoryDataset(str(tmp_path / "log.json"))
    history.save({"p": 0.5})
    with pytest.raises(DatasetError, match="cannot hold p = nan"):
        history.save({"p": float("nan")})
    assert history.load() == [{"p": 0.5}]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    history = HistoryDataset(str(tmp_path / "log.json"))
    history.save({"p": 0.5})
    (tmp_path / "log.json").write_text("[")
    assert history.fingerprint() is None
    for attempt in (history.load, lambda: history.save({"p": 0.1})):
        with pytest.raises(DatasetError, match=r"log\.json is damaged.*; no stage makes .*move it away to begin a new"):
            attempt()
    assert (tmp_path / "log.json").read_text() == "["

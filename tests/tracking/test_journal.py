"""Journals on disk."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulacra.tracking.journal import Journal


def test_records_come_back_in_order_and_from_any_place(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {"uri": "there"})
    records, end = journal.read(0)
    assert records == [{"op": "header", "uri": "there"}] and journal.header() == records[0]
    for number in range(3):
        journal.append({"op": "x", "number": number, "text": "line\nbreak\u2028"})
    records, _ = journal.read(end)
    assert [record["number"] for record in records] == [0, 1, 2] and records[0]["text"] == "line\nbreak\u2028"


def test_a_record_cut_short_is_empty_and_one_not_ended_is_not_there_yet(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {})
    _, start = journal.read(0)
    with (journal.folder / "records.jsonl").open("ab") as file:
        file.write(b'{"op": "cut\n{"op": "whole"}\n{"op": "com')
    records, end = journal.read(start)
    assert records == [{}, {"op": "whole"}]
    with (journal.folder / "records.jsonl").open("ab") as file:
        file.write(b'ing"}\n')
    assert journal.read(end)[0] == [{"op": "coming"}]


def fill(folder: Path, name: int) -> None:
    journal = Journal(folder)
    for number in range(200):
        journal.append({"from": name, "number": number, "weight": "x" * 20_000})


def test_processes_that_write_at_once_tear_no_record(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {})
    workers = [multiprocessing.get_context("fork").Process(target=fill, args=(journal.folder, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    records = journal.read(0)[0][1:]
    for name in range(4):
        assert [record["number"] for record in records if record["from"] == name] == list(range(200))


def test_a_kept_file_stays_what_it_was_when_it_is_replaced(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path / "root", {})
    file = tmp_path / "result.json"
    file.write_text("old")
    place = journal.folder / journal.keep(file)
    newer = tmp_path / "newer"
    newer.write_text("new")
    newer.replace(file)
    assert place.read_text() == "old" and place.name == "result.json"
    journal.drop(place.relative_to(journal.folder).as_posix())
    assert not place.parent.exists() and file.read_text() == "new"


def test_progress_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {})
    assert journal.noted() == (0, {})
    journal.note(3, {"": "id", "mnist.gmm": None})
    assert journal.noted() == (3, {"": "id", "mnist.gmm": None})
    (journal.folder / "progress.json").write_text("")
    assert journal.noted() == (0, {})


HOLD = """
import sys, time
from pathlib import Path
from simulacra.tracking.journal import Journal
journal = Journal.begin(Path(sys.argv[1]), {})
print(journal.folder, flush=True)
time.sleep(60)
"""


def test_only_the_journal_of_a_dead_process_can_be_taken(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    folder = Path(holder.stdout.readline().strip())
    (journal,) = Journal.earlier(tmp_path)
    assert journal.folder == folder and not journal.take()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert journal.take()
    assert not Journal(folder).take(), "nobody else takes it then, in this process neither"
    journal.remove()
    assert not folder.exists() and not Journal.earlier(tmp_path)


def test_a_forked_worker_neither_keeps_nor_frees_the_lock(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {})
    worker = os.fork()
    if not worker:
        signal.pause()
    other = os.fork()
    if not other:
        journal.append({"op": "x"})
        os._exit(0)
    os.waitpid(other, 0)
    assert not Journal(journal.folder).take()
    journal.release()
    assert Journal(journal.folder).take()
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def test_what_a_removal_cut_short_left_is_removed(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {})
    (found,) = Journal.earlier(tmp_path)
    journal.release()
    (journal.folder / "records.jsonl").unlink()
    assert not found.take() and not journal.folder.exists()


OVERFILL = """
import resource, signal, sys
from pathlib import Path
from simulacra.tracking.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
for letter in "xy":
    journal.append({"text": 1500 * letter})
"""


def test_a_full_disk_is_an_error_and_not_silence(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, {})
    done = subprocess.run([sys.executable, "-c", OVERFILL, journal.folder], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "OSError" in done.stderr
    journal.append({"op": "later"})
    texts = [json.dumps(record) for record in journal.read(0)[0]]
    assert len(texts) == 3 and "x" * 1500 in texts[1] and texts[2] == "{}"


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Journal.begin(tmp_path / "file", {})

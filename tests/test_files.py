import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulacra import files
from simulacra.errors import SimulacraError

Fill = Callable[[Path], object]


def a_file(content: bytes) -> Fill:
    return lambda path: path.write_bytes(content)


def a_folder(**contents: bytes) -> Fill:
    def fill(path: Path) -> None:
        (path / "inner").mkdir(parents=True)
        for name, content in contents.items():
            (path / "inner" / name).write_bytes(content)

    return fill


def content(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it and put things right."""


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int, write: Callable[[], object]) -> None:
    """Run a write that dies at the nth rename, and does not get to clean up after itself."""
    left = [number]
    rename, remove = Path.rename, files._remove

    def dying(self: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        patch.setattr(files, "_remove", lambda path: remove(path) if left[0] > 0 else None)
        with pytest.raises(Killed):
            write()


def test_what_is_written_is_sealed_with_the_hash_that_sha256sum_prints(tmp_path: Path) -> None:
    place = tmp_path / "a/b/c.txt"
    sha256 = files.write(place, a_file(b"hello"))
    assert sha256 == hashlib.sha256(b"hello").hexdigest() == files.check(place) == files.sealed(place)
    assert place.read_bytes() == b"hello" and names(place.parent) == {"c.txt", ".c.txt.seal"}


def test_a_folder_s_hash_is_that_of_its_names_and_contents(tmp_path: Path) -> None:
    place = tmp_path / "model"
    first = files.write(place, a_folder(a=b"1", b=b"2"))
    assert files.check(place) == files.sealed(place) == first
    assert files.write(tmp_path / "same", a_folder(a=b"1", b=b"2")) == first
    assert files.write(place, a_folder(a=b"2", b=b"1")) != first
    assert files.write(place, a_folder(a=b"1", c=b"2")) != first
    assert content(place) == {"a": b"1", "c": b"2"}
    assert names(tmp_path) == {"model", ".model.seal", "same", ".same.seal"}


def test_the_path_that_is_filled_is_named_like_the_place(tmp_path: Path) -> None:
    """Some libraries choose the format by it."""
    seen: list[str] = []
    files.write(tmp_path / "x.tar.gz", lambda path: (seen.append(path.name), path.touch()))
    assert seen == ["x.tar.gz"]


def test_what_a_library_leaves_beside_its_file_is_cleared_away(tmp_path: Path) -> None:
    files.write(tmp_path / "p", lambda path: (path.with_name(".tmp1234").touch(), path.touch()))
    assert names(tmp_path) == {"p", ".p.seal"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_may_be_read_by_whoever_the_user_lets_read_his_files(tmp_path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        files.write(tmp_path / "p", lambda path: (path.touch(0o600), path.chmod(0o600)))
        files.write(tmp_path / "folder", a_folder(x=b"x"))
    finally:
        os.umask(former)
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder/inner").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("fill", [a_file, lambda content: a_folder(x=content)], ids=["file", "folder"])
def test_a_fill_that_fails_leaves_the_former_content_and_no_litter(tmp_path: Path, fill: Callable) -> None:
    place = tmp_path / "p"
    before = files.write(place, fill(b"old"))

    def half(path: Path) -> None:
        fill(b"ne")(path)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        files.write(place, half)
    assert files.check(place) == before and names(tmp_path) == {"p", ".p.seal"}


def test_a_fill_that_makes_nothing_leaves_the_former_content(tmp_path: Path) -> None:
    place = tmp_path / "p"
    before = files.write(place, a_file(b"old"))
    with pytest.raises(FileNotFoundError):
        files.write(place, lambda path: None)
    assert files.check(place) == files.sealed(place) == before


@pytest.mark.parametrize("fill", [a_file, lambda content: a_folder(x=content)], ids=["file", "folder"])
def test_killed_between_seal_and_rename_the_former_content_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable
) -> None:
    place = tmp_path / "p"
    old = files.write(place, fill(b"old"))
    killed_at(monkeypatch, 1, lambda: files.write(place, fill(b"newer")))
    assert files.sealed(place) == files.check(place) == old
    new = files.write(place, fill(b"newest"))
    assert new != old and files.check(place) == new and names(tmp_path) == {"p", ".p.seal"}


def test_killed_twice_in_a_row_the_former_content_is_still_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "p"
    old = files.write(place, a_file(b"old"))
    for number in range(2):
        killed_at(monkeypatch, 1, lambda number=number: files.write(place, a_file(b"newer" * number)))
    assert files.sealed(place) == files.check(place) == old


@pytest.mark.parametrize("look", [files.sealed, files.check])
def test_a_folder_whose_swap_was_interrupted_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Path], str]
) -> None:
    place = tmp_path / "model"
    old = files.write(place, a_folder(x=b"old"))
    killed_at(monkeypatch, 2, lambda: files.write(place, a_folder(x=b"new")))
    assert not place.exists()
    assert look(place) == old and content(place) == {"x": b"old"}
    assert files.write(place, a_folder(x=b"new")) != old
    assert names(tmp_path) == {"model", ".model.seal"}


def test_the_first_write_that_is_killed_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "p"
    killed_at(monkeypatch, 1, lambda: files.write(place, a_file(b"new")))
    assert files.sealed(place) is None
    with pytest.raises(SimulacraError, match="p is not there yet"):
        files.check(place)


def test_an_unsealed_file_is_refused_even_where_a_killed_write_would_have_replaced_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "p"
    place.write_bytes(b"half")
    killed_at(monkeypatch, 1, lambda: files.write(place, a_file(b"new")))
    assert files.sealed(place) is None
    with pytest.raises(SimulacraError, match="damaged"):
        files.check(place)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, r"model/inner/x is damaged: its bytes are not those that were written"),
        (lambda path: path.write_bytes(b"sh"), r"model/inner/x is damaged: it has 2 bytes and was written with 5"),
        (lambda path: path.write_bytes(b""), r"model/inner/x is damaged: it has 0 bytes"),
        (lambda path: path.unlink(), r"model is damaged: inner/x is missing"),
        (lambda path: path.with_name("more").touch(), r"model is damaged: inner/more does not belong there"),
        (lambda path: shutil.rmtree(path.parent), r"model is damaged: inner/x is missing"),
        (lambda path: shutil.rmtree(path.parents[1]), r"model is not there yet; run the stage that makes it"),
        (lambda path: (path.parents[2] / ".model.seal").unlink(), r"model has no seal"),
        (lambda path: (path.parents[2] / ".model.seal").write_bytes(b""), r"model has no seal"),
        (lambda path: (path.parents[2] / ".model.seal").write_text('{"parts": {"": [1]}}'), r"model has no seal"),
    ],
    ids="flipped cut emptied missing extra none gone unsealed empty-seal odd-seal".split(),
)
@pytest.mark.parametrize("writes", [1, 2])
def test_damage_is_refused_by_name(tmp_path: Path, damage: Callable, message: str, writes: int) -> None:
    place = tmp_path / "model"
    for number in range(writes):
        files.write(place, a_folder(x=b"short" + b"er" * (writes - 1 - number)))
    damage(place / "inner/x")
    with pytest.raises(SimulacraError, match=message):
        files.check(place)
    assert files.sealed(place) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    place = tmp_path / "numbers.json"
    files.write(place, a_file(b"12345"))
    flip(place)
    with pytest.raises(SimulacraError, match=r"numbers\.json is damaged: its bytes.*run the stage that makes it again"):
        files.check(place)


def test_files_that_a_file_manager_hides_in_a_folder_do_no_harm(tmp_path: Path) -> None:
    place = tmp_path / "model"
    sha256 = files.write(place, a_folder(x=b"x"))
    (place / ".DS_Store").touch()
    assert files.check(place) == files.sealed(place) == sha256


def test_another_time_with_the_same_content_is_accepted(tmp_path: Path) -> None:
    place = tmp_path / "p"
    sha256 = files.write(place, a_file(b"same"))
    for seconds in (0, 1, 2**33):  # a clock that went backwards, or ahead by centuries
        os.utime(place, (seconds, seconds))
        assert files.check(place) == files.sealed(place) == sha256
        newer = files.write(tmp_path / "q", a_file(b"other"))
        os.utime(tmp_path / "q", (seconds, seconds))
        assert files.write(tmp_path / "q", a_file(b"third")) == files.check(tmp_path / "q") != newer


def test_another_time_with_other_content_of_the_same_size_is_not_accepted(tmp_path: Path) -> None:
    place = tmp_path / "p"
    files.write(place, a_file(b"same"))
    place.write_bytes(b"some")
    assert files.sealed(place) is None


def test_bits_that_rot_in_silence_are_found_by_check_and_from_then_on_by_sealed(tmp_path: Path) -> None:
    """Else the stage that should make the file again would be left out, as one that is done."""
    place = tmp_path / "p"
    files.write(place, a_file(b"same"))
    before = place.stat()
    flip(place)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SimulacraError, match="damaged"):
        files.check(place)
    assert files.sealed(place) is None


def test_a_copy_of_a_folder_with_its_seal_is_accepted(tmp_path: Path) -> None:
    sha256 = files.write(tmp_path / "a/model", a_folder(x=b"x"))
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    assert files.check(tmp_path / "b/model") == files.sealed(tmp_path / "b/model") == sha256


def test_removing_takes_the_seal_along(tmp_path: Path) -> None:
    files.write(tmp_path / "file", a_file(b"x"))
    files.write(tmp_path / "folder", a_folder(x=b"x"))
    for name in ("file", "folder", "nothing"):
        files.remove(tmp_path / name)
        assert files.sealed(tmp_path / name) is None
    assert not names(tmp_path)


def test_removing_buries_what_an_interrupted_swap_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "model"
    files.write(place, a_folder(x=b"old"))
    killed_at(monkeypatch, 2, lambda: files.write(place, a_folder(x=b"new")))
    files.remove(place)
    assert files.sealed(place) is None and not place.exists()


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    place = tmp_path / "large.safetensors"
    before = files.write(place, a_file(b"old"))
    with pytest.raises(SimulacraError, match=r"large\.safetensors needs 1,048,576,000 MiB.*the disk has .* MiB"):
        files.write(place, lambda path: pytest.fail("written"), need=1000 * 2**40)
    assert files.check(place) == before


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from simulacra import files

how, place = sys.argv[1], Path(sys.argv[2])
fills = {
    "bytes": lambda path: path.write_bytes(bytes(10**6)),
    "safetensors": lambda path: save_file({"a": np.zeros(10**6, np.uint8)}, path),
    "folder": lambda path: (path.mkdir(), save_file({"a": np.zeros(10**6, np.uint8)}, path / "tensors.safetensors")),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))
try:
    files.write(place, fills[how])
except OSError as error:
    print(error.errno in files.UNWRITABLE, error.filename, error.strerror, sep="|")
"""


@pytest.mark.parametrize("how", ["bytes", "safetensors", "folder"])
def test_a_disk_that_is_full_leaves_the_former_file_and_names_the_new_one(tmp_path: Path, how: str) -> None:
    place = tmp_path / "p"
    before = files.write(place, a_folder(x=b"old") if how == "folder" else a_file(b"old"))
    done = subprocess.run([sys.executable, "-c", LIMITED, how, place], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"True|{place}|File too large"
    assert files.check(place) == before and names(tmp_path) == {"p", ".p.seal"}


def test_an_error_of_the_system_deep_in_a_library_s_own_is_told_with_the_file_s_name(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "elsewhere")
        except OSError as error:
            raise ValueError("could not save") from error

    with pytest.raises(OSError, match="No space left") as caught:
        files.write(tmp_path / "p", fill)
    assert caught.value.filename == str(tmp_path / "p") and caught.value.errno == errno.ENOSPC


def test_an_error_that_is_not_the_disk_s_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.write(tmp_path / "p", lambda path: (tmp_path / "font.ttf").read_bytes())
    assert caught.value.filename == str(tmp_path / "font.ttf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_told_by_the_file_s_name(tmp_path: Path) -> None:
    place = tmp_path / "p"
    before = files.write(place, a_file(b"old"))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as caught:
            files.write(place, a_file(b"new"))
        assert caught.value.filename == str(place) and caught.value.errno in files.UNWRITABLE
        assert files.check(place) == files.sealed(place) == before
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_a_folder_above_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a note")
    for place in (tmp_path / "a/p", tmp_path / "a/b/p"):
        with pytest.raises(NotADirectoryError) as caught:
            files.write(place, a_file(b"new"))
        assert caught.value.filename == str(place) and caught.value.errno in files.UNWRITABLE
        assert caught.value.strerror == f"{tmp_path / 'a'} is a file, not a folder"
        assert files.sealed(place) is None
    assert (tmp_path / "a").read_text() == "a note"


def test_a_folder_is_never_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    with pytest.raises(IsADirectoryError, match="there is a folder of that name"):
        files.write(tmp_path / "folder", a_file(b"new"))
    with pytest.raises(NotADirectoryError, match="there is a file of that name"):
        files.write(tmp_path / "file", a_folder(x=b"new"))
    assert (tmp_path / "folder/thesis.tex").read_text() == (tmp_path / "file").read_text() == "years of work"
    assert names(tmp_path) == {"folder", "file"}


def test_a_name_of_300_letters_is_told(tmp_path: Path) -> None:
    place = tmp_path / ("n" * 300)
    with pytest.raises(OSError, match="File name too long") as caught:
        files.write(place, a_file(b"new"))
    assert caught.value.filename == str(place) and caught.value.errno in files.UNWRITABLE
    assert files.sealed(place) is None and not names(tmp_path)
    with pytest.raises(SimulacraError, match="nnn cannot be read: File name too long"):
        files.check(place)


def test_odd_names_are_names(tmp_path: Path) -> None:
    for name in ("a b", "a*", "[a]", "ä", ".a", "a.5", "a\nb", "$(a)", "-rf"):
        sha256 = files.write(tmp_path / name, a_file(name.encode()))
        assert files.check(tmp_path / name) == files.sealed(tmp_path / name) == sha256


def test_what_a_dead_process_had_begun_is_cleared_away_and_what_a_live_one_has_begun_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"{files.SCRATCH}{dead.pid}.p").mkdir()
    (tmp_path / f"{files.SCRATCH}{dead.pid}.q.json").touch()
    (tmp_path / f"{files.SCRATCH}{os.getpid()}.p").touch()
    live = {f"{files.SCRATCH}{os.getpid()}.q", f"{files.SCRATCH}{os.getppid()}.p", f".new-elsewhere-{dead.pid}.p"}
    for name in live:
        (tmp_path / name).touch()
    files.write(tmp_path / "p", a_file(b"x"))
    assert names(tmp_path) == {"p", ".p.seal", *live}


def test_reading_goes_on_while_another_process_replaces_the_folder(tmp_path: Path) -> None:
    """Every reader gets both files of one writing, though the folder is swapped a hundred times meanwhile."""
    place = tmp_path / "model"
    files.write(place, a_folder(x=b"0", y=b"0"))
    code = f"""
import time
from pathlib import Path
from simulacra import files
def fill(path):
    path.mkdir()
    for name in "xy":
        (path / name).write_text(str(number))
for number in range(100):
    files.write(Path({str(place)!r}), fill)
    time.sleep(0.005)
"""
    writer = subprocess.Popen([sys.executable, "-c", code])
    seen = set()
    while writer.poll() is None:
        try:
            both = files.read(place, content)
        except SimulacraError as error:
            assert "changes while it is read" in str(error)
            continue
        assert both["x"] == both["y"]
        seen.add(both["x"])
    assert writer.returncode == 0 and len(seen) > 3
    assert names(tmp_path) == {"model", ".model.seal"}


def test_a_reader_s_own_error_is_its_own(tmp_path: Path) -> None:
    files.write(tmp_path / "p", a_file(b"x"))
    with pytest.raises(ZeroDivisionError):
        files.read(tmp_path / "p", lambda path: 1 / 0)


def test_two_processes_that_write_one_place_leave_one_of_both(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from simulacra import files
def fill(path):
    path.mkdir()
    (path / "x").write_text(sys.argv[1])
    (path / sys.argv[1]).touch()
for _ in range(40):
    files.write(Path({str(tmp_path / "model")!r}), fill)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("one", "two")]
    assert [writer.wait() for writer in writers] == [0, 0]
    files.check(tmp_path / "model")
    assert content(tmp_path / "model") in ({"x": b"one", "one": b""}, {"x": b"two", "two": b""})
    assert names(tmp_path) == {"model", ".model.seal"}


def test_threads_that_write_beside_each_other_do_not_disturb_each_other(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            files.write(tmp_path / str(number), a_folder(x=b"x" * number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(files.check(tmp_path / str(number)) for number in range(4))


WRITER = """
import sys
from pathlib import Path
from simulacra import files

place, folder = Path(sys.argv[1]), sys.argv[2] == "folder"

def fill(path):
    if folder:
        path.mkdir()
    for name in ("a", "b") if folder else ("",):
        with (path / name if name else path).open("wb") as file:
            for _ in range(20):
                file.write(str(number % 10).encode() * 50_000)

print("begins", flush=True)
for number in range(10**9):
    files.write(place, fill)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_9_at_random_moments_leaves_one_whole_content(tmp_path: Path, kind: str) -> None:
    place, rng = tmp_path / "p", random.Random(kind)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, place, kind], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(0.03 + 0.1 * rng.random())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        sha256 = files.sealed(place)
        if sha256 is None:  # killed within the first write of all
            assert not place.exists()
            continue
        assert files.check(place) == sha256
        whole = list(content(place).values()) if kind == "folder" else [place.read_bytes()]
        assert len(whole) == (2 if kind == "folder" else 1) and len({*whole}) == 1
        assert len(whole[0]) == 1_000_000 and len({*whole[0]}) == 1
    files.write(place, a_folder(x=b"x") if kind == "folder" else a_file(b"x"))
    assert names(tmp_path) <= {"p", ".p.seal", ".p.seal.new"}

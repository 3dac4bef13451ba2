"""Garbage is left alone where there is none, and searched for again after that."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from simulacra import garbage

# Prints what the exit still had to go through.
EXIT = """
import atexit, gc
atexit.register(lambda: print(gc.get_count()[0] + sum(len(gc.get_objects(n)) for n in range(3)) < 100))
from simulacra import garbage
with garbage.not_searched_for():
    kept = [[] for _ in range(100_000)]
more = [[] for _ in range(100_000)]
"""


class Node:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def as_if_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever other tests imported, nothing forbids to freeze; and what a test froze does not stay so after it."""
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    yield
    gc.unfreeze()


def test_inside_nothing_is_searched_and_what_was_made_stays_out_of_later_searches() -> None:
    before = gc.get_freeze_count()
    with garbage.not_searched_for():
        assert not gc.isenabled()
        kept = [[] for _ in range(10_000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(kept)


def test_garbage_of_later_is_found() -> None:
    with garbage.not_searched_for():
        pass
    gone = weakref.ref(Node())
    gc.collect()
    assert gone() is None


def test_an_error_and_a_search_that_was_off_leave_it_as_it_was() -> None:
    with pytest.raises(KeyError), garbage.not_searched_for():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with garbage.not_searched_for():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_exit_goes_through_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("within", [True, False])
def test_bindings_that_count_what_is_left_of_them_have_nothing_to_report(within: bool) -> None:
    lines = ["with garbage.not_searched_for():", "    import torch", f"{'    ' * within}import torch._dynamo"]
    code = "\n".join(["from simulacra import garbage", *lines])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""

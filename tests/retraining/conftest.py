"""A workshop whose steps are small programs of a plain interpreter, run as real processes."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from simulacra.retraining.schedule_config import DatasetSchedule, ScheduleConfig
from simulacra.retraining.steps import Step, Steps
from simulacra.retraining.tick import Workshop

STEP = """
import os, sys, time
folder, name, code = sys.argv[1:]

def note(what):
    handle = os.open(f"{folder}/trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{what} {name} {time.time()}\\n".encode())
    os.close(handle)

tries = os.path.exists(f"{folder}/trace") and open(f"{folder}/trace").read().count(f"began {name} ")
note("began")
exec(code)
note("ended")
"""


def commands(folder: Path, codes: dict[str, str]) -> Callable[[str, Sequence[str]], Steps]:
    """Return steps that note their beginning and end in a file, and in between run a line of Python of their own."""

    def of(name: str) -> Step:
        return Step(name, (sys.executable, "-S", "-c", STEP, str(folder), name, codes.get(name, "")))

    page = of("page") if "page" in codes else None
    return lambda dataset, families: Steps(of("watch"), of("prepare"), tuple(map(of, families)), of("retrain"), page)


def decide(folder: Path, *families: str, retrain: bool = True) -> None:
    """Leave a decision where the first step would."""
    place = folder / "data/08_reporting/toy/retrain_decision.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"retrain": retrain, "reasons": ["new data"], "families": families}))


def trace(folder: Path, what: str = "began") -> list[str]:
    """Return the steps that began, or ended, in that order."""
    place = folder / "trace"
    lines = [line.split() for line in place.read_text().splitlines()] if place.exists() else []
    return [name for kind, name, _ in lines if kind == what]


@pytest.fixture
def workshop(tmp_path: Path) -> Callable[..., Workshop]:
    """What makes a workshop in this test's folder, of a line of Python a step, and settings of its one dataset."""

    def make(codes: dict[str, str], concurrency: int = 1, patience: float = 5, **settings: Any) -> Workshop:
        entry = DatasetSchedule(**{"cron": "0 0 1 1 *", "timezone": "UTC", "back_off": 0.1} | settings)
        config = ScheduleConfig(datasets={"toy": entry}, concurrency=concurrency, patience=patience, keep_days=3650)
        return Workshop(tmp_path, tmp_path / "data", config, commands(tmp_path, codes))

    return make

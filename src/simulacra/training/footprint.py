"""What a piece of work takes of the machine: its peak of memory, and the energy where a counter can be read."""

import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""Where Linux counts the processors' energy; most machines let only root read it, and virtual ones have none."""

PERIOD = 0.1
"""Seconds from one look to the next; a counter of energy runs full after minutes at the soonest."""

MICROJOULES_A_WATT_HOUR = 3.6e9


class EnergyCounter:
    """Adds up the energy of all processor packages (RAPL), whole machine and not this process alone.

    Args:
        folder: of the counters.

    Example:
        >>> EnergyCounter(Path("nowhere")).watt_hours() is None
        True
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        # The parts of a package, `intel-rapl:0:0`, are counted in the package already.
        packages = sorted(each for each in folder.glob("intel-rapl:*") if each.name.count(":") == 1)
        self._spent = 0
        try:
            self._ranges = {each: _number(each / "max_energy_range_uj") for each in packages}
            self._last = {each: _number(each / "energy_uj") for each in packages}
        except (OSError, ValueError):
            self._ranges = self._last = {}

    def look(self) -> None:
        """Add what was spent since the last look; a counter that ran full begins again at nothing."""
        for place, before in self._last.items():
            try:
                now = _number(place / "energy_uj")
            except (OSError, ValueError):
                continue
            self._spent += now - before if now >= before else now + self._ranges[place] - before
            self._last[place] = now

    def watt_hours(self) -> float | None:
        """Return the energy of all looks so far; None where there is no counter."""
        return self._spent / MICROJOULES_A_WATT_HOUR if self._last else None


class Footprint:
    """Filled by `footprint`.

    Attributes:
        peak_memory_mib: the most that this process held in main memory.
        gpu_memory_mib: the most that torch held on the accelerator; None without one.
        energy_wh: what all processors of the machine took; None where they cannot be asked.
    """

    def __init__(self) -> None:
        self.peak_memory_mib = 0.0
        self.gpu_memory_mib: float | None = None
        self.energy_wh: float | None = None


@contextmanager
def footprint(powercap: Path = POWERCAP) -> Iterator[Footprint]:
    """Measure what is done inside; the figures are there once it has ended.

    The system keeps the highest peak of a process since its beginning. Where that rises it is this work's own; where
    an earlier one was higher, this work's is looked at every tenth of a second, and a shorter one may be missed.

    Example:
        >>> with footprint() as taken:
        ...     content = bytes(50_000_000)
        >>> taken.peak_memory_mib > 47
        True
    """
    taken, energy, done = Footprint(), EnergyCounter(powercap), threading.Event()
    before = _highest()

    def watch() -> None:
        while True:
            taken.peak_memory_mib = max(taken.peak_memory_mib, _held())
            energy.look()
            if done.wait(PERIOD):
                return

    _forget_gpu_peak()
    watcher = threading.Thread(target=watch, name="footprint", daemon=True)
    watcher.start()
    try:
        yield taken
    finally:
        done.set()
        watcher.join()
        energy.look()
        after = _highest()
        taken.peak_memory_mib = after if after > before else max(taken.peak_memory_mib, _held())
        taken.energy_wh, taken.gpu_memory_mib = energy.watt_hours(), _gpu_peak()


def _held() -> float:
    """Return the main memory of this process in MiB."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def _highest() -> float:
    """Return the most that this process or a worker of it has ever held, in MiB; macOS counts bytes, Linux KiB."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _forget_gpu_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _gpu_peak() -> float | None:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


def _number(file: Path) -> int:
    return int(file.read_text())

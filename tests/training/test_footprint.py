import threading
import time
from pathlib import Path

import numpy as np
import pytest

from simulacra.training.footprint import EnergyCounter, footprint


def packages(folder: Path, *energies: int, full: int = 10_000_000_000) -> list[Path]:
    """Counters as Linux shows them, each with a part that is counted in the whole already."""
    files = []
    for number, energy in enumerate(energies):
        for place in (folder / f"intel-rapl:{number}", folder / f"intel-rapl:{number}:0"):
            place.mkdir(parents=True)
            (place / "max_energy_range_uj").write_text(f"{full}\n")
            (place / "energy_uj").write_text(f"{energy}\n")
        files.append(folder / f"intel-rapl:{number}" / "energy_uj")
    return files


def test_the_energy_of_all_packages_adds_up_and_a_counter_may_run_full(tmp_path: Path) -> None:
    first, second = packages(tmp_path, 9_000_000_000, 0)
    counter = EnergyCounter(tmp_path)
    assert counter.watt_hours() == 0
    first.write_text("9500000000\n")
    counter.look()
    first.write_text("100000000\n")  # 0.5 to the end of the counter, and 0.1 from its beginning, in 10⁹ µJ
    second.write_text("700000000\n")
    counter.look()
    assert counter.watt_hours() == pytest.approx((0.5 + 0.6 + 0.7) * 1e9 / 3.6e9)


def test_counters_that_only_root_may_read_are_none(tmp_path: Path) -> None:
    (first,) = packages(tmp_path, 5)
    first.unlink()
    first.mkdir()  # nobody, not even root, reads a folder as a number
    assert EnergyCounter(tmp_path).watt_hours() is None


def test_energy_is_that_of_the_work_alone(tmp_path: Path) -> None:
    (counter,) = packages(tmp_path, 1_000_000)
    with footprint(tmp_path) as taken:
        counter.write_text("4600000\n")
    counter.write_text("99000000\n")
    assert taken.energy_wh == pytest.approx(0.001)


def test_the_peak_is_the_works_own_even_after_a_higher_one() -> None:
    higher = np.ones(50_000_000)  # 400 MB, which the system remembers for good
    del higher
    with footprint() as idle:
        time.sleep(0.01)
    with footprint() as busy:
        content = np.ones(25_000_000)
        time.sleep(0.3)
        del content
    assert 150 < busy.peak_memory_mib - idle.peak_memory_mib < 250


def test_a_new_highest_peak_is_noticed_however_short() -> None:
    with footprint() as idle:
        pass
    with footprint() as taken:
        np.ones(150_000_000).sum()
    assert taken.peak_memory_mib - idle.peak_memory_mib > 1000


def test_nothing_goes_on_after_an_error() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"), footprint() as taken:
        raise ValueError("broken")
    assert threading.active_count() == before and taken.peak_memory_mib > 0

import os
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from safetensors.numpy import load_file

from simulacra.metrics.cache import IN_MEMORY, FeatureCache

ABOUT = {"name": "counting", "sha256": "ab" * 32, "resizer": "none", "input": "uint8"}


class Counting:
    """Counts how often it is asked to compute."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> np.ndarray:
        self.times += 1
        return np.full((3, 2), self.times, np.float32)


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 1, 4, 4), np.uint8)


def test_the_same_images_are_computed_once() -> None:
    cache, compute = FeatureCache(), Counting()
    first = cache.get(ABOUT, images(), compute)
    np.testing.assert_array_equal(cache.get(ABOUT, images().copy(), compute), first)
    assert compute.times == 1


@pytest.mark.parametrize("about", [{"sha256": "cd" * 32}, {"resizer": "bilinear"}, {"input": "x / 255"}, {"name": "b"}])
def test_another_extractor_computes_anew(about: dict[str, str], tmp_path: Path) -> None:
    cache, compute = FeatureCache(tmp_path), Counting()
    cache.get(ABOUT, images(), compute)
    cache.get(ABOUT | about, images(), compute)
    assert compute.times == 2


def test_other_images_compute_anew() -> None:
    cache, compute = FeatureCache(), Counting()
    pixels = images()
    cache.get(ABOUT, pixels, compute)
    pixels[2, 0, 3, 3] ^= 1
    cache.get(ABOUT, pixels, compute)
    cache.get(ABOUT, pixels.reshape(3, 1, 2, 8), compute)
    assert compute.times == 3


def test_the_next_run_finds_them_on_disk(tmp_path: Path) -> None:
    compute = Counting()
    first = FeatureCache(tmp_path).get(ABOUT, images(), compute)
    again = FeatureCache(tmp_path).get(ABOUT, images(), compute)
    np.testing.assert_array_equal(again, first)
    (path,) = tmp_path.glob("*.safetensors")
    np.testing.assert_array_equal(load_file(path)["features"], first)
    assert compute.times == 1


def test_a_damaged_file_is_computed_anew_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compute = Counting()
    FeatureCache(tmp_path).get(ABOUT, images(), compute)
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert FeatureCache(tmp_path).get(ABOUT, images(), compute).max() == 2
    assert "computed anew" in caplog.text and path.name in caplog.text
    assert FeatureCache(tmp_path).get(ABOUT, images(), compute).max() == 2


def test_a_folder_that_cannot_be_written_only_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    compute = Counting()
    cache = FeatureCache(tmp_path / "file/folder")
    assert cache.get(ABOUT, images(), compute).max() == 1
    assert "cannot be kept" in caplog.text
    cache.get(ABOUT, images(), compute)
    assert compute.times == 1


def test_the_folder_keeps_what_was_used_last(tmp_path: Path) -> None:
    compute = Counting()
    size = 0
    for seed in range(3):
        FeatureCache(tmp_path).get(ABOUT, images(seed), compute)
        newest = max(tmp_path.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (seed, seed))
        size = newest.stat().st_size
    FeatureCache(tmp_path).get(ABOUT, images(0), compute)  # used again, just now
    FeatureCache(tmp_path, largest=2 * size).get(ABOUT, images(3), compute)
    assert compute.times == 4
    for seed, found in ((0, True), (3, True), (1, False), (2, False)):
        fresh = Counting()
        FeatureCache(tmp_path, largest=10 * size).get(ABOUT, images(seed), fresh)
        assert (fresh.times == 0) == found, seed
    hidden = [path.name for path in tmp_path.iterdir() if not path.name.endswith((".safetensors", ".safetensors.seal"))]
    assert hidden == []


def test_one_larger_than_the_folder_stays_until_the_next(tmp_path: Path) -> None:
    for seed in range(2):
        FeatureCache(tmp_path, largest=1).get(ABOUT, images(seed), Counting())
        assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_memory_holds_the_last_few(tmp_path: Path) -> None:
    cache, compute = FeatureCache(), Counting()
    for seed in range(IN_MEMORY + 1):
        cache.get(ABOUT, images(99), compute)  # the reference, which every comparison asks for
        cache.get(ABOUT, images(seed), compute)
    assert compute.times == IN_MEMORY + 2
    cache.get(ABOUT, images(0), compute)
    assert compute.times == IN_MEMORY + 3


def test_features_cannot_be_changed_by_whoever_asked() -> None:
    cache = FeatureCache()
    with pytest.raises(ValueError, match="read-only"):
        cache.get(ABOUT, images(), Counting())[0] = 1


def test_threads_that_want_the_same_compute_it_once(tmp_path: Path) -> None:
    compute = Counting()
    threads = [Thread(target=FeatureCache(tmp_path).get, args=(ABOUT, images(), compute)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compute.times == 1

import numpy as np
import pytest
import torch

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.training.batches import ImageBatches, to_float, to_uint8

NUMBERED = ImageSet(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10), tuple("abcdefghij"))


def rows(batches: ImageBatches, step: int) -> list[int]:
    labels = batches.at(step).y
    assert labels is not None
    return labels.tolist()


def test_an_epoch_visits_every_row_once_and_epochs_differ() -> None:
    batches = ImageBatches(NUMBERED, batch_size=5, seed=3)
    epochs = [rows(batches, 2 * epoch) + rows(batches, 2 * epoch + 1) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_depends_on_seed_and_step_only() -> None:
    forward = [rows(ImageBatches(NUMBERED, batch_size=4, seed=1), step) for step in range(6)]
    batches = ImageBatches(NUMBERED, batch_size=4, seed=1)
    assert [rows(batches, step) for step in reversed(range(6))] == forward[::-1]
    assert [rows(ImageBatches(NUMBERED, batch_size=4, seed=2), step) for step in range(6)] != forward


def test_images_and_labels_stay_together() -> None:
    batch = ImageBatches(NUMBERED, batch_size=5, seed=0).at(7)
    assert batch.y is not None
    assert torch.equal(to_uint8(batch.x).flatten(), batch.y.to(torch.uint8))


def test_in_order_covers_all_rows() -> None:
    parts = ImageBatches(NUMBERED, batch_size=4, seed=0).in_order()
    assert [len(part.x) for part in parts] == [4, 4, 2]


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    assert sorted(rows(ImageBatches(NUMBERED, batch_size=99, seed=0), 0)) == list(range(10))


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_float(levels).aminmax() == pytest.approx((-1, 1))
    assert to_uint8(torch.tensor([-3.0, 7.0])).tolist() == [0, 255]


def test_processes_share_a_batch_row_by_row_and_noise_by_noise() -> None:
    whole = ImageBatches(NUMBERED, batch_size=6, seed=4).at(5)
    shares = [ImageBatches(NUMBERED, batch_size=6, seed=4, rank=rank, world=3).at(5) for rank in range(3)]
    assert torch.equal(torch.cat([share.x for share in shares]), whole.x)
    assert torch.equal(torch.cat([share.noise.normal(2, 5) for share in shares]), whole.noise.normal(6, 5))


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(SimulacraError, match=r"batch_size is 5 here, which 2 processes cannot share evenly"):
        ImageBatches(NUMBERED, batch_size=5, seed=0, rank=0, world=2)

import numpy as np
import pytest
import torch

from simulacra.training.noise import Noise


def draws(noise: Noise, rows: int) -> list[torch.Tensor]:
    return [noise.normal(rows, 3), noise.uniform(rows), noise.integers(7, rows, 2)]


def test_seed_step_and_order_of_calls_decide() -> None:
    first, second = draws(Noise(1, 2), 4), draws(Noise(1, 2), 4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for other in (Noise(2, 2), Noise(1, 3), Noise(2, 1)):
        assert not torch.equal(draws(other, 4)[0], first[0])


@pytest.mark.parametrize("world", [2, 3])
def test_shares_put_together_are_what_one_process_draws(world: int) -> None:
    shares = [draws(Noise(5, 9, rank=rank, world=world), 4) for rank in range(world)]
    for whole, *parts in zip(draws(Noise(5, 9), 4 * world), *shares, strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_numbers_are_distributed_as_they_say() -> None:
    noise = Noise(0)
    normal, uniform, integers = (
        x.numpy() for x in (noise.normal(40_000), noise.uniform(40_000), noise.integers(3, 30_000))
    )
    assert abs(normal.mean()) < 0.02 and normal.std() == pytest.approx(1, abs=0.02)
    assert 0 <= uniform.min() and uniform.max() < 1 and uniform.mean() == pytest.approx(0.5, abs=0.01)
    assert np.bincount(integers) / 30_000 == pytest.approx(1 / 3, abs=0.01)


def test_the_global_generator_neither_matters_nor_moves() -> None:
    torch.manual_seed(3)
    before, first = torch.get_rng_state(), Noise(0).normal(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(Noise(0).normal(5), first)

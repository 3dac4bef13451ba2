from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from simulacra.training import checkpoint
from simulacra.training.checkpoint import Checkpoint


def some(step: int) -> Checkpoint:
    return Checkpoint(step, {"module": {"a.b/c": torch.full((2,), float(step))}}, {"identity": {"x": 1}})


def test_the_newest_of_two_is_kept_and_loaded(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, some(step))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000000002", "step-000000010"]
    found = checkpoint.load(tmp_path, {"x": 1})
    assert found is not None and found.step == 10
    assert found.states["module"]["a.b/c"].tolist() == [10, 10]


def test_as_many_are_kept_as_asked_for(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, some(step), keep=3)
    assert sorted(path.name[-1] for path in tmp_path.glob("step-*")) == ["3", "4", "5"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: bytes([data[0] ^ 1]) + data[1:], lambda _: b""]
)
@pytest.mark.parametrize("name", ["tensors.safetensors", "facts.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[bytes], bytes]
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, some(step))
    victim = tmp_path / "step-000000002" / name
    victim.write_bytes(damage(victim.read_bytes()))
    found = checkpoint.load(tmp_path, {"x": 1})
    assert found is not None and found.step == 1
    assert "passed over a checkpoint" in caplog.text and "step-000000002" in caplog.text


def test_later_steps_of_a_training_given_up_make_room(tmp_path: Path) -> None:
    for step in (900, 1000, 100):
        checkpoint.save(tmp_path, some(step))
    found = checkpoint.load(tmp_path, {"x": 1})
    assert found is not None and found.step == 100
    checkpoint.save(tmp_path, some(200), keep=1)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000000200"]


def test_an_unfinished_write_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "step-000000007").mkdir()
    (tmp_path / "step-000000007/facts.json").write_text("{}")
    assert checkpoint.load(tmp_path, {}) is None


def test_a_place_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    checkpoint.save(blocked, some(4))
    assert "the checkpoint of step 4 could not be kept, training goes on" in caplog.text


def test_clear_removes_all(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, some(1))
    checkpoint.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_optimiser_state_returns_bit_for_bit() -> None:
    def steps(optimizer: torch.optim.Optimizer, module: nn.Module, n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad()
            module(torch.ones(1, 3)).sum().square().backward()
            optimizer.step()

    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), 0.1)
    steps(optimizer, module, 3)
    twin = nn.Linear(3, 2)
    twin.load_state_dict(module.state_dict())
    fresh = torch.optim.AdamW(twin.parameters(), 0.1)
    checkpoint.restore_optimizer(fresh, checkpoint.optimizer_tensors(optimizer))
    steps(optimizer, module, 3)
    steps(fresh, twin, 3)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))

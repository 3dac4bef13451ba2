import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from simulacra.nn.batch_norm import BatchNorm

SHARED = """
import os
import sys
from pathlib import Path

import torch
from torch import distributed, multiprocessing

def run(rank, world, folder):
    from simulacra.nn.batch_norm import BatchNorm

    if world > 1:
        store = (Path(folder) / "store").as_uri()
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, 4, 5, generator=generator) * 3 + 7
    target = torch.randn(8, 3, 4, 5, generator=generator)
    share = slice(rank * 8 // world, (rank + 1) * 8 // world)
    norm = BatchNorm(3)
    mine = x[share].clone().requires_grad_()
    out = norm(norm(mine) + mine)
    loss = (out - target[share]).square().mean()
    loss.backward()
    found = {"out": out.detach(), "x": mine.grad / world, "weight": norm.weight.grad, "bias": norm.bias.grad}
    torch.save(found | dict(norm.state_dict()), Path(folder) / f"{world}-{rank}.pt")
    if world > 1:
        # Left to the end of the process, the group's threads may end it by an abort; so may others' at its very end.
        distributed.barrier()
        distributed.destroy_process_group()
        os._exit(0)

if __name__ == "__main__":
    run(0, 1, sys.argv[1])
    multiprocessing.spawn(run, (2, sys.argv[1]), nprocs=2)
"""


def test_in_one_process_it_is_torch_s() -> None:
    x = torch.randn(16, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 3 + 1
    ours, theirs = BatchNorm(5), nn.BatchNorm2d(5)
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    flat = x[:, :, 0, 0]
    torch.testing.assert_close(BatchNorm(5)(flat), nn.BatchNorm1d(5)(flat))


def test_two_processes_normalise_and_differentiate_as_one(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SHARED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one = torch.load(tmp_path / "1-0.pt")
    two = [torch.load(tmp_path / f"2-{rank}.pt") for rank in (0, 1)]
    for key in ("out", "x"):
        torch.testing.assert_close(torch.cat([part[key] for part in two]), one[key], atol=1e-5, rtol=1e-4)
    for key in ("weight", "bias"):
        averaged = (two[0][key] + two[1][key]) / 2
        torch.testing.assert_close(averaged, one[key], atol=1e-5, rtol=1e-4)
    for key in ("running_mean", "running_var"):
        torch.testing.assert_close(two[0][key], one[key])
        assert torch.equal(two[0][key], two[1][key])
    assert one["running_mean"].abs().min() > 1 and one["num_batches_tracked"] == two[0]["num_batches_tracked"] == 2


@pytest.mark.parametrize("training", [True, False])
def test_bf16_comes_back_as_autocast_gives_it(training: bool) -> None:
    norm = BatchNorm(3).train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(torch.randn(4, 3, 2, 2).bfloat16()).dtype == torch.bfloat16

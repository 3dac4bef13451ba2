import pytest
import torch
from torch import nn

from simulacra.training.ema import Ema


def test_the_average_covers_weights_running_statistics_and_parameters_without_gradient() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    module.register_parameter("moving", nn.Parameter(torch.zeros(2), requires_grad=False))
    ema = Ema(module, decay=0.75)
    with torch.no_grad():
        for value in module.state_dict().values():
            value.add_(4)
    began = {key: value.clone() for key, value in ema.state.items()}
    ema.update(module, step=10**6)
    for key in ("0.weight", "1.running_mean", "1.running_var", "moving"):
        torch.testing.assert_close(ema.state[key], began[key] + 1)
    assert int(ema.state["1.num_batches_tracked"]) == 4, "a count is copied"


def test_what_is_not_averaged_follows_at_once() -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    ema = Ema(module, decay=0.9, averages=lambda key: key.startswith("0."))
    with torch.no_grad():
        for value in module.state_dict().values():
            value.add_(1)
    ema.update(module, step=10**6)
    assert torch.equal(ema.state["1.weight"], module[1].weight)
    assert not torch.equal(ema.state["0.weight"], module[0].weight)


def test_the_first_steps_are_soon_forgotten() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(module, decay=0.999)
    nn.init.ones_(module.weight)
    for step in range(1, 51):
        ema.update(module, step)
    assert float(ema.state["weight"]) == pytest.approx(1, abs=1e-3)

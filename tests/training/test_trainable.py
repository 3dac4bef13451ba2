"""Updates that differ in how often, how far and with what memory they move."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simulacra.data.image_set import ImageSet
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History
from simulacra.training.loop import train
from simulacra.training.state import TrainingState
from simulacra.training.trainable import Trainable, Update

DATA = ImageSet(np.random.default_rng(0).integers(0, 256, (64, 1, 4, 4), np.uint8))
BUDGET = TrainingConfig(
    steps=20, batch_size=16, learning_rate=0.01, log_every=1, schedule="constant", gradient_clip=0.0, ema_decay=0.9
)


class Pair(Trainable):
    """Two numbers that follow the data: one at every step, the other by what the test says of it."""

    def __init__(self, stop: int = 10**9, **options: object) -> None:
        super().__init__()
        self.often, self.seldom = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.stop, self.options = stop, options
        self.batches: list[tuple[int, float, float]] = []

    def updates(self) -> list[Update]:
        return [
            Update("often", self.loss, [self.often]),
            Update("seldom", self.other, [self.seldom], **self.options),
        ]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step >= self.stop:
            raise KeyboardInterrupt
        target = batch.x.mean() + batch.noise.normal(1)
        self.batches.append((batch.step, float(batch.x.sum()), float(target)))
        return {"loss": (target - self.often).square().mean()}

    def other(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (batch.noise.normal(1) + self.often.detach() - self.seldom).square().mean()}


def fit(module: Pair, checkpoints: Path | None = None, **changes: object) -> History:
    return train(module, DATA, BUDGET.model_copy(update=changes), seed=0, checkpoints=checkpoints)


def test_an_update_that_takes_every_third_step_moves_at_those_only() -> None:
    module = Pair(every=3)
    frame = fit(module).frame()
    assert frame[frame.name == "often_loss"].step.tolist() == list(range(1, 21))
    for name in ("seldom_loss", "seldom_gradient_norm"):
        assert frame[frame.name == name].step.tolist() == [3, 6, 9, 12, 15, 18]
    two, three = Pair(every=3), Pair(every=3)
    fit(two, steps=2), fit(three, steps=3)
    assert two.seldom.item() == 0.0 != three.seldom.item()


def test_each_step_between_has_rows_and_noise_of_its_own() -> None:
    module = Pair(every=5)
    fit(module)
    assert [step for step, _, _ in module.batches] == list(range(20))
    for column in (1, 2):
        assert len({row[column] for row in module.batches}) == 20


@pytest.mark.parametrize("stop", [4, 10, 11])
def test_killed_between_the_moves_of_a_seldom_update_it_ends_the_same(tmp_path: Path, stop: int) -> None:
    whole, resumed = Pair(every=3), Pair(every=3)
    expected = fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(Pair(stop=stop, every=3), tmp_path, checkpoint_minutes=1e-9)
    history = fit(resumed, tmp_path, checkpoint_minutes=1e-9)
    assert torch.equal(whole.often, resumed.often) and torch.equal(whole.seldom, resumed.seldom)
    assert history.points == expected.points


def test_rates_are_multiples_of_the_training_s() -> None:
    # Adam's first step is the learning rate in length, whatever the gradient.
    module = Pair(rate=4.0)
    fit(module, steps=1, ema_decay=0.0)
    assert abs(module.often.item()) == pytest.approx(0.01, rel=1e-4)
    assert abs(module.seldom.item()) == pytest.approx(0.04, rel=1e-4)


def test_moments_decay_as_each_update_says() -> None:
    state = TrainingState(Pair(betas=(0.0, 0.9)), BUDGET)
    betas = {name: optimizer.param_groups[0]["betas"] for name, (optimizer,) in state.optimizers.items()}
    assert betas == {"often": (0.9, 0.999), "seldom": (0.0, 0.9)}

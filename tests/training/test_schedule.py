import math

import pytest
import torch
from torch import nn

from simulacra.training.config import TrainingConfig
from simulacra.training.ema import Ema
from simulacra.training.schedule import learning_rate_factor


def test_warm_up_is_linear_and_cosine_ends_near_zero() -> None:
    config = TrainingConfig(steps=110, warmup_steps=10)
    assert [learning_rate_factor(config, step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate_factor(config, 10) == 1
    assert learning_rate_factor(config, 60) == pytest.approx(0.5)
    assert learning_rate_factor(config, 109) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))


def test_a_cosine_may_end_above_zero() -> None:
    config = TrainingConfig(steps=100, final_rate=0.1)
    rates = [learning_rate_factor(config, step) for step in (0, 50, 100)]
    assert rates == pytest.approx([1, 0.55, 0.1])


def test_constant_schedule_stays() -> None:
    config = TrainingConfig(steps=100, schedule="constant")
    assert {learning_rate_factor(config, step) for step in range(100)} == {1.0}


def test_ema_follows_its_recurrence() -> None:
    module = nn.Linear(1, 1, bias=False)
    ema = Ema(module, decay=0.5)
    expected = float(ema.state["weight"])
    for step, weight in enumerate([1.0, 5.0, -2.0, 0.5], start=1):
        module.weight.data.fill_(weight)
        ema.update(module, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    assert float(ema.state["weight"]) == pytest.approx(expected)


def test_ema_copies_counters() -> None:
    module = nn.BatchNorm1d(2)
    ema = Ema(module, decay=0.9)
    module(torch.randn(4, 2))
    ema.update(module, 1)
    assert int(ema.state["num_batches_tracked"]) == 1

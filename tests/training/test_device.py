import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simulacra.data.image_set import ImageSet
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.device import COMPILE_FROM_STEPS, resolve_compile
from simulacra.training.history import History
from simulacra.training.loop import train
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable, Update

DATA = ImageSet(np.random.default_rng(0).integers(0, 256, (64, 1, 6, 6), np.uint8))
COMPILED = TrainingConfig(steps=20, batch_size=16, log_every=1, validate_every=5, ema_decay=0.9, compile=True)
CPU = torch.device("cpu")


class Repair(Trainable):
    """Takes noise out of pictures; a second optimiser follows the first one's bias."""

    compile_pays = True

    def __init__(self, stop: int = 10**9) -> None:
        super().__init__()
        with seeded(0):
            self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))
        self.follower = nn.Parameter(torch.ones(1))
        self.stop = stop
        self.entered: list[bool] = []

    def updates(self) -> list[Update]:
        return [Update("", self.loss, list(self.layers.parameters())), Update("f", self.follow, [self.follower])]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if not torch.compiler.is_compiling():
            self.entered.append(self.training)
        noisy = batch.x + 0.1 * batch.noise.normal(*batch.x.shape)
        return {"loss": (self.layers(noisy) - batch.x).square().mean()}

    def follow(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (self.layers[2].bias.detach() - self.follower).square().mean()}


def fit(config: TrainingConfig, checkpoints: Path | None = None, kill_at: int = 0) -> tuple[Repair, History]:
    def kill(step: int, split: str, values: dict[str, float]) -> None:
        if step == kill_at:
            raise KeyboardInterrupt

    module = Repair()
    return module, train(module, DATA, config, seed=0, validation=DATA, checkpoints=checkpoints, callbacks=[kill])


def test_a_compiled_loss_trains_as_the_plain_one_and_only_the_training_is_compiled() -> None:
    plain, expected = fit(COMPILED.model_copy(update={"compile": False}))
    module, history = fit(COMPILED)
    assert history.facts["compiled"] and not expected.facts["compiled"]
    assert module.entered == [False] * len(module.entered), "in training the compiled code stands for the method"
    assert True in plain.entered and list(module.state_dict()) == list(plain.state_dict())
    values = [[point["value"] for point in points] for points in (history.points, expected.points)]
    assert values[0] == pytest.approx(values[1], rel=1e-3)


def test_a_compiled_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = COMPILED.model_copy(update={"checkpoint_steps": 3, "precision": "bf16"})
    whole, expected = fit(config)
    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path, kill_at=11)
    resumed, history = fit(config, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert history.points == expected.points


def test_auto_compiles_long_trainings_of_networks_that_gain() -> None:
    long, module = TrainingConfig(steps=COMPILE_FROM_STEPS), Repair()
    assert long.compile == "auto" and resolve_compile(long, CPU, module)
    assert not resolve_compile(long.model_copy(update={"steps": COMPILE_FROM_STEPS - 1}), CPU, module)
    assert not resolve_compile(long.model_copy(update={"compile": False}), CPU, module)
    module.compile_pays = False
    assert not resolve_compile(long, CPU, module)


def test_without_a_compiler_the_training_goes_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    from torch._inductor import config as inductor

    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}), caplog.at_level(logging.WARNING):
        _, history = fit(COMPILED)
    assert not history.facts["compiled"] and history.facts["steps"] == 20
    assert "training.compile needs a C++ compiler that works" in caplog.text
    assert "No working C++ compiler found" in caplog.text


def test_many_trainings_of_one_process_are_all_compiled(caplog: pytest.LogCaptureFixture) -> None:
    few = COMPILED.model_copy(update={"steps": 1})
    with caplog.at_level(logging.WARNING):
        entered = [fit(few)[0].entered for _ in range(10)]
    assert all(True not in each for each in entered) and "recompile" not in caplog.text

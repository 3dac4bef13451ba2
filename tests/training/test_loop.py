import logging
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.training import interruption, progress
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.device import resolve_device, resolve_precision
from simulacra.training.interruption import Interrupted
from simulacra.training.loop import TrainingDiverged, train
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable, Update

DATA = ImageSet(np.random.default_rng(0).integers(0, 256, (64, 1, 4, 4), np.uint8))
QUICK = TrainingConfig(steps=40, batch_size=16, learning_rate=0.05, log_every=1, validate_every=10)


class MeanImage(Trainable):
    """Learns the mean image under squared error; `poison` spoils the loss from a step on."""

    def __init__(self, poison: int = 10**9, stop: int = 10**9) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(16))
        self.poison, self.stop = poison, stop

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step >= self.stop:
            raise KeyboardInterrupt
        noise = 0.01 * batch.noise.normal(len(batch.x), 16).mean(0)
        loss = (batch.x.flatten(1) - self.mean - noise).square().mean()
        return {"loss": loss * (float("nan") if batch.step >= self.poison else 1.0), "noise": noise.sum()}


def fit(module: MeanImage, config: TrainingConfig = QUICK, **options: object) -> "train.__class__":
    with seeded(0):
        return train(module, DATA, config, seed=0, **options)


def test_it_finds_the_minimum() -> None:
    module = MeanImage()
    fit(module, QUICK.model_copy(update={"steps": 600}))
    expected = torch.from_numpy(DATA.images).flatten(1).float().mean(0) / 127.5 - 1
    torch.testing.assert_close(module.mean.detach(), expected, atol=0.02, rtol=0)


def test_curves_hold_every_entry_of_the_loss() -> None:
    history = fit(MeanImage(), validation=DATA)
    frame = history.frame()
    assert set(frame[frame.split == "train"].name) == {"loss", "noise", "learning_rate", "gradient_norm"}
    assert frame[(frame.split == "train") & (frame.name == "loss")].step.tolist() == list(range(1, 41))
    assert frame[(frame.split == "validation") & (frame.name == "loss")].step.tolist() == [10, 20, 30, 40]
    assert history.facts["steps"] == 40 and history.facts["precision"] == "fp32"


def test_the_callback_hears_what_the_history_records() -> None:
    heard: list[tuple[int, str]] = []
    history = fit(MeanImage(), callbacks=[lambda step, split, values: heard.append((step, split))], validation=DATA)
    assert heard == list(dict.fromkeys((point["step"], point["split"]) for point in history.points))


def test_an_interrupted_run_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9, "ema_decay": 0.9, "patience": 3})
    whole, interrupted, resumed = MeanImage(), MeanImage(stop=23), MeanImage()
    expected = fit(whole, config, validation=DATA, checkpoints=tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, config, validation=DATA, checkpoints=tmp_path / "b")
    history = fit(resumed, config, validation=DATA, checkpoints=tmp_path / "b")
    assert torch.equal(resumed.mean, whole.mean)
    assert history.points == expected.points


def test_a_finished_training_whose_result_was_lost_is_not_trained_again(tmp_path: Path) -> None:
    first, second = MeanImage(), MeanImage(stop=0)
    expected = fit(first, checkpoints=tmp_path)
    history = fit(second, checkpoints=tmp_path)
    assert torch.equal(first.mean, second.mean) and history.points == expected.points


def test_checkpoints_come_by_step(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_steps": 7, "checkpoint_minutes": 0, "keep_last": 3})
    fit(MeanImage(), config, checkpoints=tmp_path)
    assert [int(place.name[-2:]) for place in sorted(tmp_path.glob("step-*"))] == [28, 35, 40]


def test_a_signal_stops_after_the_step_with_a_checkpoint(tmp_path: Path) -> None:
    def ask(step: int, split: str, values: dict[str, float]) -> None:
        if step == 17:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, resumed = MeanImage(), MeanImage()
    fit(whole)
    with pytest.raises(Interrupted), interruption.handled():
        fit(MeanImage(), checkpoints=tmp_path, callbacks=[ask])
    assert [place.name for place in tmp_path.glob("step-*")] == ["step-000000017"]
    with interruption.handled():
        fit(resumed, checkpoints=tmp_path)
    assert torch.equal(resumed.mean, whole.mean)


def test_another_number_of_threads_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        fit(MeanImage(stop=5), config, checkpoints=tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        fit(MeanImage(), config, checkpoints=tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert f"began with {threads} threads and goes on with {threads + 1}" in caplog.text


class Adversaries(Trainable):
    """Two parameters with losses of their own: one follows the data, the other runs after the first."""

    def __init__(self, stop: int = 10**9) -> None:
        super().__init__()
        self.leader, self.follower = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))
        self.stop = stop

    def updates(self) -> list[Update]:
        return [Update("leader", self.loss, [self.leader]), Update("follower", self.chase, [self.follower])]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step >= self.stop:
            raise KeyboardInterrupt
        return {"loss": (batch.x.mean() + batch.noise.normal(1) - self.leader).square().mean()}

    def chase(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (self.leader.detach() - self.follower).square().mean()}


def test_two_optimisers_take_turns_and_resume_exactly(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    whole, resumed = Adversaries(), Adversaries()
    expected = fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(Adversaries(stop=21), config, checkpoints=tmp_path)
    history = fit(resumed, config, checkpoints=tmp_path)
    assert torch.equal(resumed.leader, whole.leader) and torch.equal(resumed.follower, whole.follower)
    assert history.points == expected.points
    names = {point["name"] for point in history.points}
    assert {"leader_loss", "follower_loss", "leader_gradient_norm", "follower_gradient_norm"} <= names


def test_the_best_weights_are_kept_without_patience_when_asked_for() -> None:
    config = QUICK.model_copy(update={"steps": 30, "learning_rate": 0.9, "schedule": "constant", "keep_best": True})
    module = MeanImage()
    history = fit(module, config, validation=DATA)
    scores = [p["value"] for p in history.points if p["split"] == "validation" and p["name"] == "loss"]
    with torch.no_grad():
        final = float(module.loss(Batch(torch.from_numpy(DATA.images).float() / 127.5 - 1, None))["loss"])
    assert final == pytest.approx(min(scores), rel=1e-5) and scores[-1] > min(scores)


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        fit(MeanImage(stop=5), config, checkpoints=tmp_path)
    with pytest.raises(SimulacraError, match=r"training\.learning_rate: 0\.05 then, 0\.1 now"):
        fit(MeanImage(), config.model_copy(update={"learning_rate": 0.1}), checkpoints=tmp_path)
    fit(MeanImage(), config.model_copy(update={"learning_rate": 0.1, "resume": False}), checkpoints=tmp_path)


def test_a_training_may_begin_anew_rather_than_refuse_the_checkpoint_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = QUICK.model_copy(update={"checkpoint_steps": 10, "resume": "if_same"})
    with pytest.raises(KeyboardInterrupt):
        fit(MeanImage(stop=23), config, checkpoints=tmp_path)
    same, whole = MeanImage(), MeanImage()
    fit(same, config, checkpoints=tmp_path)
    other, alone = MeanImage(), MeanImage()
    changed = config.model_copy(update={"learning_rate": 0.1})
    fit(other, changed, checkpoints=tmp_path)
    fit(alone, changed)
    fit(whole, config)
    assert torch.equal(same.mean, whole.mean) and torch.equal(other.mean, alone.mean)
    assert "begins anew" in caplog.text and "learning_rate" in caplog.text


def test_a_training_that_is_not_to_resume_makes_its_own_checkpoints(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        fit(MeanImage(stop=30), config, checkpoints=tmp_path)
    anew = config.model_copy(update={"resume": False, "learning_rate": 0.1})
    with pytest.raises(KeyboardInterrupt):
        fit(MeanImage(stop=7), anew, checkpoints=tmp_path)
    assert [int(place.name[5:]) for place in sorted(tmp_path.glob("step-*"))] == [6, 7]
    whole, resumed = MeanImage(), MeanImage()
    fit(whole, anew)
    fit(resumed, anew.model_copy(update={"resume": True}), checkpoints=tmp_path)
    assert torch.equal(resumed.mean, whole.mean)


def test_the_seconds_of_a_training_are_those_of_all_its_parts(tmp_path: Path) -> None:
    class Slow(MeanImage):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            time.sleep(0.01)
            return super().loss(batch)

    slept = 0.01 * QUICK.steps
    assert fit(Slow(), checkpoints=tmp_path).facts["seconds"] >= slept
    assert fit(Slow(), checkpoints=tmp_path).facts["seconds"] >= slept  # though nothing was left to do


class BadOnHeldOutRows(MeanImage):
    """Loses its numbers where no gradient is taken."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        values = super().loss(batch)
        return values if self.training else values | {"loss": values["loss"] * float("nan")}


def test_a_validation_that_is_not_finite_stops_the_training() -> None:
    with pytest.raises(TrainingDiverged, match=r"step 10: loss = nan"):
        fit(BadOnHeldOutRows(), validation=DATA)


def test_processes_that_cannot_share_a_batch_are_refused_before_they_start() -> None:
    with pytest.raises(ValueError, match=r"batch_size 16 must be a multiple of processes × hosts"):
        TrainingConfig(batch_size=16, processes=3)
    with pytest.raises(ValueError, match=r"2 hosts need rendezvous, host:port of the first one, got ''"):
        TrainingConfig(hosts=2)


def test_nan_stops_the_training_and_keeps_the_last_finite_checkpoint(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    with pytest.raises(TrainingDiverged, match=r"step 13: loss = nan.*learning_rate"):
        fit(MeanImage(poison=12), config, checkpoints=tmp_path)
    assert max(tmp_path.glob("step-*")).name == "step-000000012"


def test_early_stopping_keeps_the_best_weights() -> None:
    # A constant rate far too high: the loss is best at some validation and worse later.
    config = QUICK.model_copy(update={"steps": 400, "learning_rate": 0.9, "schedule": "constant", "patience": 2})
    module = MeanImage()
    history = fit(module, config, validation=DATA)
    scores = [p["value"] for p in history.points if p["split"] == "validation" and p["name"] == "loss"]
    assert history.facts["stopped_early"] and history.facts["steps"] < 400
    assert scores[-3] == min(scores) and min(scores[-2:]) >= min(scores), (
        "two validations without progress, then the end"
    )
    with torch.no_grad():
        final = float(module.loss(Batch(torch.from_numpy(DATA.images).float() / 127.5 - 1, None))["loss"])
    assert final == pytest.approx(min(scores), rel=1e-5)


def test_gradients_are_clipped() -> None:
    module = MeanImage()
    start = module.mean.detach().clone()
    fit(module, QUICK.model_copy(update={"steps": 1, "gradient_clip": 1e-12, "learning_rate": 1e-3}))
    # Adam divides by the gradient's own size plus 1e-8: a gradient of 1e-12 can only move by 1e-4 of the rate.
    assert (module.mean - start).abs().max() < 1e-6


def test_bf16_trains_too() -> None:
    module = MeanImage()
    history = fit(module, QUICK.model_copy(update={"precision": "bf16", "channels_last": True}))
    assert history.facts["precision"] == "bf16"
    assert module.mean.dtype == torch.float32 and torch.isfinite(module.mean).all()


def test_auto_precision_needs_a_module_that_gains() -> None:
    assert resolve_precision("auto", torch.device("cpu"), MeanImage()) == "fp32"
    assert resolve_precision("bf16", torch.device("cpu"), MeanImage()) == "bf16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(SimulacraError, match="cuda, which this machine does not have"):
        resolve_device("cuda")


def test_without_a_terminal_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO):
        fit(MeanImage(), QUICK.model_copy(update={"steps": 2}), title="mean")
    assert "mean: step 1 of 2, loss" in caplog.text and "steps/s" in caplog.text


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(MeanImage())
    assert torch.equal(torch.get_rng_state(), before)


class Convolution(MeanImage):
    """The same, with a weight whose memory format matters, and a hyper-parameter."""

    def __init__(self, scale: float = 1.0, stop: int = 10**9) -> None:
        super().__init__(stop=stop)
        self.scale = scale
        self.filter = nn.Conv2d(1, 8, 3, padding=1)
        self.back = nn.Conv2d(8, 1, 3, padding=1)

    def settings(self) -> dict[str, float]:
        return {"scale": self.scale}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step >= self.stop:
            raise KeyboardInterrupt
        return {"loss": self.scale * (self.back(self.filter(batch.x).tanh()) - batch.x).square().mean()}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_convolutions_resume_bit_for_bit(tmp_path: Path, precision: str, channels_last: bool) -> None:
    changes = {"checkpoint_minutes": 1e-9, "precision": precision, "channels_last": channels_last}
    config = QUICK.model_copy(update=changes)
    with seeded(1):
        whole = Convolution()
    interrupted, resumed = Convolution(stop=23), Convolution()
    for twin in (interrupted, resumed):
        twin.load_state_dict(whole.state_dict())
    fit(whole, config)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, config, checkpoints=tmp_path)
    fit(resumed, config, checkpoints=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_checkpoint_of_other_hyper_parameters_is_refused(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        fit(Convolution(stop=5), config, checkpoints=tmp_path)
    with pytest.raises(SimulacraError, match=r"model\.scale: 1\.0 then, 2\.0 now"):
        fit(Convolution(scale=2.0), config, checkpoints=tmp_path)

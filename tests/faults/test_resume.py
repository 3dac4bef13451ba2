"""Trainings that are killed and go on: written against the interface, so that it holds for every neural family."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from simulacra.models import FAMILIES, family_class
from simulacra.models.neural import NeuralImageModel

NEURAL = [name for name in FAMILIES if issubclass(family_class(name), NeuralImageModel)]
STEPS = 24

TRAINING = """
import os, signal, sys
from pathlib import Path
from simulacra.data.fabricate import fabricate_images
from simulacra.models import family_class
from simulacra.training.config import TrainingConfig

family, folder, precision = family_class(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
training = TrainingConfig(
    steps=24, batch_size=16, log_every=1, validate_every=5, ema_decay=0.9, warmup_steps=3, checkpoint_steps=4,
    keep_best=True, precision=precision, channels_last=True,
)
data = fabricate_images(n=100, size=8, channels=1, n_classes=2, seed=0)  # five steps an epoch

def fit(folder, kill_at):
    def kill(step, split, values):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    model = family(family.Config())
    train, validation = data.take(range(80)), data.take(range(80, 100))
    history = model.fit(train, validation=validation, training=training, seed=3, checkpoints=folder, callbacks=[kill])
    print(model.fingerprint(), model.sample(4, seed=1).fingerprint(), history.frame().to_csv(index=False), flush=True)

# Each training has a process of its own, forked so that the libraries are imported once.
for name, kill_at in [("killed", int(step)) for step in sys.argv[4:]] + [("killed", 0), ("whole", 0)]:
    child = os.fork()
    if not child:
        fit(folder / name, kill_at)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if kill_at else 0), (name, kill_at, status)
    print("=" * 9, flush=True)
"""


def kept(folder: Path) -> tuple[str, dict]:
    """Hash of the last checkpoint's tensors (weights, EMA, best, optimisers) and its facts but for the clock's."""
    place = folder / f"step-{STEPS:09d}"
    facts = json.loads((place / "facts.json").read_text())
    return hashlib.sha256((place / "tensors.safetensors").read_bytes()).hexdigest(), facts | {"seconds": None}


@pytest.mark.parametrize("family", NEURAL)
def test_killed_at_any_step_it_ends_bit_for_bit_as_if_it_had_not_been(family: str, tmp_path: Path) -> None:
    precision = random.choice(["fp32", "bf16"])
    # In the middle of an epoch, at different distances from the last checkpoint; a fresh choice every time.
    steps = [str(step) for step in sorted(random.sample(range(2, STEPS), 3))]
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, family, str(tmp_path), precision, *steps],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *_, resumed, whole, _ = done.stdout.split("=========\n")
    assert resumed == whole and len(whole) > 500, f"{family} in {precision}, killed at {steps}"
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole"), f"{family} in {precision}, killed at {steps}"


SAVING = """
import os, signal, sys, threading, time
from pathlib import Path
import torch
from simulacra.training import checkpoint

def some(step):
    return checkpoint.Checkpoint(step, {"module": {"w": torch.full((2_000_000,), float(step))}}, {"identity": {}})

checkpoint.save(Path(sys.argv[1]), some(1))
threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
for step in range(2, 10**6):
    checkpoint.save(Path(sys.argv[1]), some(step))
"""


@pytest.mark.parametrize("attempt", range(3))
def test_killed_while_a_checkpoint_is_written_a_whole_one_remains(tmp_path: Path, attempt: int) -> None:
    from simulacra.training import checkpoint

    delay = random.uniform(0.02, 0.4)
    subprocess.run([sys.executable, "-c", SAVING, str(tmp_path), str(delay)], check=False, timeout=60)
    found = checkpoint.load(tmp_path, {})
    assert found is not None, delay
    weights = found.states["module"]["w"]
    assert (weights == found.step).all(), f"killed after {delay} s: step {found.step} holds another step's weights"
    checkpoint.save(tmp_path, checkpoint.Checkpoint(10**7, found.states, {"identity": {}}))
    again = checkpoint.load(tmp_path, {})
    assert again is not None and again.step == 10**7


def test_a_checkpoint_with_a_pickle_in_it_is_not_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    from simulacra.training import checkpoint

    checkpoint.save(tmp_path, checkpoint.Checkpoint(1, {"module": {"w": torch.ones(1)}}, {"identity": {}}))
    canary = tmp_path / "canary"
    # What `pickle.dumps` makes of an object whose __reduce__ is (os.system, ("touch canary",)).
    command = f"touch {canary}".encode()
    poison = b"cposix\nsystem\n(S'" + command + b"'\ntR."
    (tmp_path / "step-000000001/tensors.safetensors").write_bytes(poison)
    assert checkpoint.load(tmp_path, {}) is None
    assert "passed over a checkpoint" in caplog.text and not canary.exists()

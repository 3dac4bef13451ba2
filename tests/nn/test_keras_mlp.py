import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from simulacra.errors import SimulacraError
from simulacra.nn.keras_mlp import KerasMlpGenerator
from simulacra.training.ema import Ema
from simulacra.training.seeding import seeded

os.environ["KERAS_BACKEND"] = "torch"  # read when Keras is imported, by importorskip too

MISSING = """
import sys
sys.modules["keras"] = None  # what an import of it finds where it is not installed
from simulacra.errors import SimulacraError
from simulacra.nn.keras_mlp import KerasMlpGenerator
try:
    KerasMlpGenerator(4, (1, 4, 4))
except SimulacraError as error:
    print(error)
"""


ELSEWHERE = """
import json, os, sys
from pathlib import Path
from simulacra.nn.keras_mlp import KerasMlpGenerator
import torch
generator = KerasMlpGenerator(4, (1, 4, 4))
import keras
image = generator(torch.zeros(2, 4))
print(json.dumps({
    "backend": keras.backend.backend(), "dtype": str(image.dtype),
    "environment": {name: value for name, value in os.environ.items() if name in ("KERAS_BACKEND", "KERAS_HOME")},
    "home": sorted(str(path.relative_to(Path.home())) for path in Path.home().rglob("*keras*")),
}))
"""


@pytest.mark.parametrize("settings", [None, {"backend": "tensorflow", "floatx": "float16"}])
def test_keras_s_own_configuration_is_neither_read_nor_written(settings: dict[str, str] | None, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    if settings:
        (tmp_path / ".keras").mkdir()
        (tmp_path / ".keras/keras.json").write_text(json.dumps(settings))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERAS")}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env=environment | {"HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert (found["backend"], found["dtype"]) == ("torch", "torch.float32")
    assert found["environment"] == {"KERAS_BACKEND": "tensorflow"}, "the user's own is put back"
    assert found["home"] == ([".keras", ".keras/keras.json"] if settings else [])


def test_keras_s_global_policy_does_not_change_the_generator() -> None:
    keras = pytest.importorskip("keras")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        generator = made()
    finally:
        keras.config.set_dtype_policy("float32")
    assert {parameter.dtype for parameter in generator.parameters()} == {torch.float32}
    assert generator(torch.zeros(2, 64)).dtype == torch.float32


def made(seed: int = 0) -> KerasMlpGenerator:
    pytest.importorskip("keras")
    with seeded(seed):
        return KerasMlpGenerator(64, (1, 28, 28))


def test_the_layers_are_those_it_is_said_to_have() -> None:
    layers = made().model.layers
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == ["Dense", "LeakyReLU", "BatchNormalization"] * 3 + ["Dense", "Reshape"]
    dense = [layer for layer in layers if type(layer).__name__ == "Dense"]
    assert [layer.units for layer in dense] == [256, 512, 1024, 784]
    assert [layer.activation.__name__ for layer in dense] == ["linear"] * 3 + ["tanh"]
    assert [layer.negative_slope for layer in layers if hasattr(layer, "negative_slope")] == [0.2] * 3
    assert [layer.momentum for layer in layers if hasattr(layer, "momentum")] == [0.8] * 3


def test_every_weight_is_counted_once() -> None:
    generator = made()
    assert sum(parameter.numel() for parameter in generator.parameters()) == 1_484_304
    movable = sum(parameter.numel() for parameter in generator.parameters() if parameter.requires_grad)
    assert movable == 1_484_304 - 2 * (256 + 512 + 1024), "moving means and variances are not learnt"
    assert len(generator.state_dict()) == 4 * 2 + 3 * 4


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    first, again, other = made(), made(), made(1)
    for left, right in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    before = torch.get_rng_state()
    first(torch.zeros(3, 64))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_moves_the_statistics_and_evaluation_uses_them() -> None:
    generator, z = made(), torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    moving = [parameter for parameter in generator.parameters() if not parameter.requires_grad]
    began = [parameter.clone() for parameter in moving]
    generator.eval()
    still = generator(z)
    assert all(torch.equal(*pair) for pair in zip(moving, began, strict=True))
    generator.train()
    for _ in range(50):
        images = generator(z)
    assert images.shape == (32, 1, 28, 28) and images.detach().abs().max() <= 1
    assert not any(torch.equal(*pair) for pair in zip(moving, began, strict=True))
    generator.eval()
    settled = generator(z)
    # After 50 batches of momentum 0.8 the statistics are the batch's own.
    torch.testing.assert_close(settled, images, atol=0.01, rtol=0.01)
    assert not torch.allclose(settled, still, atol=0.05)


def test_gradients_reach_all_that_may_move_and_the_state_goes_from_one_to_another() -> None:
    generator, other = made(), made(1)
    z = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    generator(z).square().mean().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in generator.parameters())
    generator.eval(), other.eval()
    other.load_state_dict(generator.state_dict())
    assert torch.equal(generator(z), other(z))


def test_a_copy_has_weights_of_its_own() -> None:
    generator, z = made().eval(), torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    parent = torch.nn.Sequential(generator)
    twin = deepcopy(parent)[0]
    assert torch.equal(twin(z), generator(z)) and not twin.training
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert not torch.equal(twin(z), generator(z))


def test_the_average_covers_the_moving_statistics() -> None:
    generator = made()
    ema = Ema(generator, decay=0.5)
    generator(torch.randn(16, 64, generator=torch.Generator().manual_seed(0)) * 3)
    ema.update(generator, step=10**6)
    moved = [
        key
        for (key, value), parameter in zip(ema.state.items(), generator.parameters(), strict=True)
        if not parameter.requires_grad and not torch.equal(value, parameter)
    ]
    assert len(moved) == 6


def test_without_keras_the_remedy_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=True)
    assert 'pip install -e ".[keras]"' in done.stdout and "architecture=keras_mlp" in done.stdout


def test_keras_on_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(SimulacraError, match="already imported it on jax; set KERAS_BACKEND=torch"):
        KerasMlpGenerator(4, (1, 4, 4))


def test_keras_is_imported_only_when_it_is_asked_for() -> None:
    code = "import sys, simulacra.models.gan; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

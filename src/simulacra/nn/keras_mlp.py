"""A dense generator written in Keras 3, trained by torch: Keras runs on its torch backend."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from simulacra.errors import SimulacraError

LAYERS = (256, 512, 1024)
LEAK = 0.2
MOMENTUM = 0.8


def load_keras() -> Any:
    """Import Keras with torch below it; it takes seconds, hence only when it is asked for.

    Raises:
        SimulacraError: where Keras is not installed, or already runs on another backend.
    """
    try:
        with own_configuration():
            keras = import_module("keras")
    except ImportError as error:
        raise SimulacraError(
            "gan.model.architecture=keras_mlp needs Keras, which is not installed: "
            'pip install -e ".[keras]", or set architecture to mlp'
        ) from error
    if keras.backend.backend() != "torch":
        raise SimulacraError(
            f"gan.model.architecture=keras_mlp needs Keras on torch, and this process already imported it on "
            f"{keras.backend.backend()}; set KERAS_BACKEND=torch before Keras is imported"
        )
    return keras


@contextmanager
def own_configuration() -> Iterator[None]:
    """Let Keras be imported in the block as this project needs it, whatever `~/.keras/keras.json` says.

    When it is first imported, Keras reads backend and number format from the user's file, and writes one where there is
    none. In the block it finds an empty folder instead, and torch as its backend.
    """
    if "keras" in sys.modules:
        yield
        return
    names = ("KERAS_BACKEND", "KERAS_HOME")
    former = {name: os.environ[name] for name in names if name in os.environ}
    try:
        with tempfile.TemporaryDirectory() as empty:
            os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": empty}
            yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ |= former


class KerasMlpGenerator(nn.Module):
    """Dense layers of 256, 512 and 1024, each with LeakyReLU and then batch normalisation, and a Tanh to the image.

    Keras normalises over each process's share of a batch, where the other generators do over all of it, and knows
    number formats of its own: it is for one process, in float32 whatever Keras's global policy is.

    Args:
        in_features: length of the input vectors.
        shape: channels, height and width of the image.

    Raises:
        SimulacraError: where Keras is not there.
    """

    def __init__(self, in_features: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.in_features, self.shape = in_features, shape
        keras = load_keras()
        layers, (channels, height, width) = keras.layers, shape
        # Keras knows nothing of torch's global generator; its seed decides these weights like all others.
        weights = [keras.initializers.GlorotUniform(torch.initial_seed() % 2**31 + number) for number in range(4)]
        stack = [keras.Input((in_features,), dtype="float32")]
        for size, weight in zip(LAYERS, weights[:3], strict=True):
            stack += [
                layers.Dense(size, kernel_initializer=weight, dtype="float32"),
                layers.LeakyReLU(negative_slope=LEAK, dtype="float32"),
                layers.BatchNormalization(momentum=MOMENTUM, dtype="float32"),
            ]
        pixels = channels * height * width
        image = layers.Dense(pixels, activation="tanh", kernel_initializer=weights[3], dtype="float32")
        with keras.device("cpu"):
            model = keras.Sequential([*stack, image, layers.Reshape(shape, dtype="float32")])
        # In a tuple, since torch would find every weight twice in Keras's own modules, and under names that count how
        # many models this process has made. Moving statistics are among them, as parameters without gradient.
        self.held = model, keras
        self.weights = nn.ParameterList([variable.value for variable in model.variables])

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.held[0]

    def forward(self, z: Tensor) -> Tensor:
        """Map vectors (n, in_features) to images in [-1, 1]."""
        # Keras would otherwise move everything to a GPU where there is one.
        with self.held[1].device(str(z.device)):
            return self.model(z, training=self.training)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> "KerasMlpGenerator":
        """Return a twin with weights of its own; Keras's models cannot be copied."""
        twin = type(self)(self.in_features, self.shape).to(self.weights[0].device).train(self.training)
        twin.load_state_dict(self.state_dict())
        return twin

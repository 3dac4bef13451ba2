"""A dense generator written in Keras 3, trained by torch: Keras runs on its torch backend."""

import os
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
    # Keras reads it once, when it is first imported.
    os.environ["KERAS_BACKEND"] = "torch"
    try:
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


class KerasMlpGenerator(nn.Module):
    """Dense layers of 256, 512 and 1024, each with LeakyReLU and then batch normalisation, and a Tanh to the image.

    Keras normalises over each process's share of a batch, where the other generators do over all of it.

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
        stack = [keras.Input((in_features,))]
        for size, weight in zip(LAYERS, weights[:3], strict=True):
            stack += [
                layers.Dense(size, kernel_initializer=weight),
                layers.LeakyReLU(negative_slope=LEAK),
                layers.BatchNormalization(momentum=MOMENTUM),
            ]
        image = layers.Dense(channels * height * width, activation="tanh", kernel_initializer=weights[3])
        with keras.device("cpu"):
            model = keras.Sequential([*stack, image, layers.Reshape(shape)])
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

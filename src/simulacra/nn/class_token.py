"""A vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), seen through the token that sums an image up."""

from typing import Any

from torch import Tensor, nn

from simulacra.errors import SimulacraError


class ClassToken(nn.Module):
    """A model of `transformers` whose features are its last hidden state of the class token, after the last norm.

    Args:
        model: takes `pixel_values` and returns a `last_hidden_state` (n, tokens, d), the class token first.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def features(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, h, w) to features (n, d)."""
        return self.model(pixel_values=x).last_hidden_state[:, 0]  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Refuse to give logits: DINOv2 was trained without classes.

        Raises:
            SimulacraError: always.
        """
        raise SimulacraError("a model that was trained without classes gives no probabilities of any")

"""Reconstructions: what is left of an image once it is encoded and decoded."""

import numpy as np
from numpy.typing import NDArray

from simulacra.exploration.findings import Findings, signed
from simulacra.exploration.panels import Panel
from simulacra.exploration.space import LatentSpace, in_turn

COLUMNS = 10
"""Images a row; there are two rows where there are enough."""


def reconstructions(space: LatentSpace) -> Findings:
    """Return held-out images beside what is left of them once they are encoded and decoded."""
    held = space.held_out
    decoded = space.decode(held.codes, held.groups)
    error = _squared_error(decoded, held.images.images)
    mean = space.learnt.images.images.mean(axis=0)
    metrics = {
        "reconstruction_mse": error,
        "reconstruction_r2": 1 - error / max(_squared_error(mean, held.images.images), 1e-12),
    }
    bands = 2 if len(held.images) >= 2 * COLUMNS else 1
    rows = np.resize(in_turn(held.classes, bands * COLUMNS), (bands, min(COLUMNS, len(held.images))))
    pairs = np.stack([held.images.images[rows], decoded[rows]], axis=1)
    caption = (
        f"Held-out images, and below each what is left of it once it is encoded and decoded. The mean squared error of "
        f"all {len(decoded):,} is {error:.4f}, pixels counting from 0 to 1, and R² is "
        f"{signed(metrics['reconstruction_r2'], 2)}: 1 is perfect, and 0 would be the mean image every time."
    )
    panel = Panel(
        "reconstructions",
        "Reconstructions",
        caption,
        ("image", "decoded") * bands,
        ("",) * rows.shape[1],
        pairs.reshape(2 * bands, rows.shape[1], *pairs.shape[3:]),
        rows_apart=(2,) * (bands - 1),
    )
    return Findings(metrics, [panel], {})


def _squared_error(images: NDArray[np.uint8] | NDArray[np.float64], targets: NDArray[np.uint8]) -> float:
    """Return the mean squared error of pixels, which count from 0 to 1."""
    return float(((images.astype(np.float32) - targets) ** 2).mean(dtype=np.float64)) / 255**2

"""Traversals: one coordinate of a code changed at a time."""

import numpy as np
from numpy.typing import NDArray

from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.findings import Findings, slider_positions, step_name
from simulacra.exploration.panels import Panel
from simulacra.exploration.space import LatentSpace

Array = NDArray[np.float64]

MANY_DIMENSIONS = 64
"""Number of coordinates above which a single one says too little, and principal components are traversed instead."""


def traversals(space: LatentSpace, config: ExplorationConfig) -> Findings:
    """Return one typical held-out image, with one coordinate of its code changed at a time."""
    held, centred = space.held_out, space.centred(space.held_out)
    axes, spreads, names, effective = _axes(space.centred(space.learnt))
    base = int(np.linalg.norm(centred, axis=1).argmin())
    shown = slice(min(config.dimensions, len(axes)))
    positions = slider_positions(config)
    moves = positions[None, :, None] * (spreads[shown, None] * axes[shown])[:, None]
    # The coordinate itself is set, not the image's own value moved: a row spans what is usual for the coordinate.
    along = (centred[base] @ axes[shown].T)[:, None] * axes[shown]
    codes = (held.codes[base] - along)[:, None] + moves
    decoded = space.decode(codes, np.full(codes.shape[:2], held.groups[base]))
    original = np.broadcast_to(held.images.images[base], (len(decoded), 1, *decoded.shape[2:]))
    by_component = len(axes[0]) > MANY_DIMENSIONS
    ends = step_name(positions[0]), step_name(positions[-1])
    what = "principal component of the codes" if by_component else "coordinate of the code"
    caption = (
        f"A typical held-out image, with one {what} a row set from {ends[0]} to {ends[1]} standard deviations and all "
        f"others left alone. Shown are the {len(decoded)} of {len(spreads):,} that vary most; where nothing changes "
        "along a row, the decoder makes no use of it. Codes vary as if "
        f"{effective:.1f} independent coordinates shared their variance evenly."
    )
    panel = Panel(
        "traversals",
        "One principal component at a time" if by_component else "One coordinate at a time",
        caption,
        tuple(names[shown]),
        ("image", *map(step_name, positions)),
        np.concatenate([original, decoded], axis=1),
        apart=(1,),
    )
    return Findings({"latent_dim": held.codes.shape[1], "effective_dimensions": effective}, [panel], {})


def _axes(centred: Array) -> tuple[Array, Array, list[str], float]:
    """Return unit vectors to move along (rows), the spread on each, their names, and the effective dimensions.

    The most spread comes first. Effective dimensions are the participation ratio of the covariance's eigenvalues.
    """
    _, singular, components = np.linalg.svd(centred, full_matrices=False)
    effective = float((singular**2).sum() ** 2 / max((singular**4).sum(), 1e-300))
    n, d = centred.shape
    if d > MANY_DIMENSIONS:
        return components, singular / np.sqrt(n), [f"component {k + 1}" for k in range(len(components))], effective
    spreads = np.sqrt((centred**2).mean(axis=0))
    order = np.argsort(-spreads, kind="stable")
    return np.eye(d)[order], spreads[order], [f"z{k + 1}" for k in order], effective

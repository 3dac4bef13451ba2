"""Interpolation between two images: straight lines and arcs among their codes."""

import numpy as np
from numpy.typing import NDArray

from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.findings import Findings, class_name
from simulacra.exploration.panels import Panel
from simulacra.exploration.space import LatentSpace, Rows

Array = NDArray[np.float64]

MEASURED_PAIRS = 100
"""Pairs over which the line's distance from the centre is averaged; far fewer are shown."""
LONG_LABEL = 12
NEARLY_PARALLEL = 1e-6
"""Sine of the angle below which an arc is not defined, or no other than the line."""


def interpolations(space: LatentSpace, config: ExplorationConfig) -> Findings:
    """Return paths between pairs of held-out images, straight and along an arc."""
    held, unlike = space.held_out, space.n_classes > 1 and not space.conditional
    pairs = _pairs(held.classes, space.n_classes, MEASURED_PAIRS, unlike=unlike)
    if not pairs:
        return Findings({}, [], {"interpolations": "no two held-out images could be paired"})
    halfway = float(np.mean([_halfway(space, start, end) for start, end in pairs]))
    shown = pairs[: config.pairs]
    images = np.stack([row for start, end in shown for row in _path_rows(space, start, end, config.steps)])
    names = [(class_name(held.images, start), class_name(held.images, end)) for start, end in shown]
    ends = "two classes, and only the codes change between them" if unlike else "one class, which stays the same"
    kinds = f"Both ends are of {ends}. " if held.images.class_names else ""
    caption = (
        f"From one held-out image, far left, to another, far right: pictures decoded along the way. {kinds}"
        "Upper rows take the straight line between the two codes, lower rows the arc around the centre of all codes"
        f"{' of the class' if space.conditional else ''}. Half-way, the line is at {halfway:.2f} of the ends' "
        "distance from that centre, where fewer codes are; the arc keeps the distance."
    )
    panel = Panel(
        "interpolations",
        "From one image to another",
        caption,
        tuple(label for start, end in names for label in _path_labels(start, end)),
        ("image", *(f"{share:.2g}" for share in np.linspace(0, 1, config.steps)), "image"),
        images,
        apart=(1, config.steps + 1),
        rows_apart=tuple(range(2, 2 * len(shown), 2)),
    )
    return Findings({"halfway_distance": halfway}, [panel], {})


def linear(start: Array, end: Array, steps: int) -> Array:
    """Return codes at equal distances on the straight line, ends included, (steps, d)."""
    share = np.linspace(0, 1, steps)[:, None]
    return np.asarray((1 - share) * start + share * end)


def spherical(start: Array, end: Array, steps: int, centre: Array) -> Array:
    """Return codes at equal angles on the arc around a centre, ends included, (steps, d).

    In many dimensions nearly all codes of a Gaussian lie at one distance from its centre. The straight line between
    two of them leads through the empty middle; the arc stays where codes are. Its distance from the centre passes
    evenly from that of one end to that of the other. Where both lie in one direction from the centre, or in opposite
    ones, there is no one arc, and this is the line.

    References:
        Shoemake (1985), SIGGRAPH; White (2016), arXiv:1609.04468.
    """
    lengths = np.linalg.norm(start - centre), np.linalg.norm(end - centre)
    if min(lengths) == 0:
        return linear(start, end, steps)
    a, b = (start - centre) / lengths[0], (end - centre) / lengths[1]
    angle = np.arccos(np.clip(a @ b, -1, 1))
    if np.sin(angle) < NEARLY_PARALLEL:
        return linear(start, end, steps)
    share = np.linspace(0, 1, steps)[:, None]
    directions = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    return np.asarray(centre + ((1 - share) * lengths[0] + share * lengths[1]) * directions)


def _pairs(classes: Rows, n_classes: int, n: int, *, unlike: bool) -> list[tuple[int, int]]:
    """Return n pairs of rows at most, classes in turn: of the same class, or of one class and the next."""
    rows = [np.flatnonzero(classes == label) for label in range(n_classes)]
    rows = [each for each in rows if len(each)]
    partners = rows[1:] + rows[:1] if unlike else rows
    turns = range(max(map(len, rows)) // 2 + 1)
    found = [
        (int(own[2 * turn]), int(other[2 * turn + 1]))
        for turn in turns
        for own, other in zip(rows, partners, strict=True)
        if 2 * turn < len(own) and 2 * turn + 1 < len(other)
    ]
    return found[:n]


def _path_rows(space: LatentSpace, start: int, end: int, steps: int) -> NDArray[np.uint8]:
    """Return the two rows of one pair: original, decoded line or arc, original."""
    held = space.held_out
    a, b, centre = held.codes[start], held.codes[end], space.centres[held.groups[start]]
    codes = np.stack([linear(a, b, steps), spherical(a, b, steps, centre)])
    decoded = space.decode(codes, np.full((2, steps), held.groups[start]))
    originals = [np.broadcast_to(held.images.images[row], (2, 1, *held.images.shape)) for row in (start, end)]
    return np.concatenate([originals[0], decoded, originals[1]], axis=1)


def _path_labels(start: str, end: str) -> tuple[str, str]:
    """Return the labels of one pair's two rows."""
    between = " → " if len(start + end) <= LONG_LABEL else " →\n"
    name = start if start == end else f"{start}{between}{end}"
    return (f"{name}\nline", f"{name}\narc") if name else ("line", "arc")


def _halfway(space: LatentSpace, start: int, end: int) -> float:
    """Return how far the line is from the centre half-way, in units of the ends' mean distance from it."""
    held = space.held_out
    a, b = (held.codes[row] - space.centres[held.groups[start]] for row in (start, end))
    ends = float(np.linalg.norm(a) + np.linalg.norm(b)) / 2
    return float(np.linalg.norm((a + b) / 2)) / max(ends, 1e-12)

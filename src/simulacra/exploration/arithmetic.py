"""Arithmetic with codes: mean of class A − mean of class B + x."""

import numpy as np
from numpy.typing import NDArray

from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.findings import Findings
from simulacra.exploration.panels import Panel
from simulacra.exploration.space import LatentSpace

TERMS = 3
"""Images to which each difference of class means is added."""


def arithmetic(space: LatentSpace, config: ExplorationConfig) -> Findings:
    """Return mean of class A − mean of class B + x, for held-out images x of class B."""
    held, names = space.held_out, space.held_out.images.class_names
    known = [label for label in range(len(names)) if (space.learnt.classes == label).any()]
    known = [label for label in known if (held.classes == label).any()]
    if len(known) < 2:
        return Findings({}, [], {"arithmetic": "it needs images of two classes at least"})
    pairs = list(zip([*known[1:], known[0]], known, strict=True))[: config.pairs]
    images = np.stack([_terms(space, wanted, given) for wanted, given in pairs])
    told = (
        "The decoder is told the class of A for the result, and the codes carry over all that the class does not tell. "
        if space.conditional
        else ""
    )
    caption = (
        f"Mean code of class A, minus that of class B, plus the code of a held-out image x of class B: the result "
        f"should be of class A, in the manner of x. {told}On the left, both means are decoded."
    )
    panel = Panel(
        "arithmetic",
        "Arithmetic with codes",
        caption,
        tuple(f"{names[wanted]}\n− {names[given]}\n+ x" for wanted, given in pairs),
        ("A", "B", *("x", "result") * TERMS),
        images,
        apart=(2, 4, 6),
    )
    return Findings({}, [panel], {})


def _terms(space: LatentSpace, wanted: int, given: int) -> NDArray[np.uint8]:
    """Return one row of arithmetic: both means decoded, then pairs of x and result."""
    held = space.held_out
    rows = np.resize(np.flatnonzero(held.classes == given), TERMS)
    means = space.class_means[[wanted, given]]
    results = held.codes[rows] + means[0] - means[1]
    groups = np.array([wanted, given, *[wanted] * TERMS]) if space.conditional else np.zeros(2 + TERMS, np.int64)
    decoded = space.decode(np.concatenate([means, results]), groups)
    pairs = np.stack([held.images.images[rows], decoded[2:]], axis=1)
    return np.concatenate([decoded[:2], pairs.reshape(-1, *decoded.shape[1:])])

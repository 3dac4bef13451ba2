"""Sliders: an attribute turned up and down along its direction, and measured again."""

import numpy as np

from simulacra.data.attributes import ATTRIBUTES
from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.directions import explained_share, learn_direction, rank_correlation
from simulacra.exploration.findings import POSITIONS, Findings, class_name, percent, signed, slider_positions, step_name
from simulacra.exploration.panels import Panel
from simulacra.exploration.space import LatentSpace, in_turn

MEASURED_IMAGES = 64
"""Images that are moved along each attribute's direction and measured again."""


def slider(space: LatentSpace, name: str, config: ExplorationConfig) -> Findings:
    """Return images that were moved along an attribute's direction, and whether the attribute followed."""
    attribute, held = ATTRIBUTES[name], space.held_out
    values = space.measured(space.learnt, attribute.measure)
    judged = space.measured(held, attribute.measure)
    if min(np.ptp(values), np.ptp(judged)) < 1e-9:
        return Findings({}, [], {name: f"{name} is the same in every image"})
    direction = learn_direction(space.centred(space.learnt), values)
    explained = explained_share(direction, space.centred(held), judged)
    rows = in_turn(held.classes, MEASURED_IMAGES)
    positions = slider_positions(config)
    moved = held.codes[rows, None] + positions[:, None] * direction.step
    decoded = space.decode(moved, np.repeat(held.groups[rows, None], POSITIONS, axis=1))
    again = attribute.measure(decoded.reshape(-1, *decoded.shape[2:])).reshape(len(rows), POSITIONS)
    correlation, profile = rank_correlation(positions, again), again.mean(axis=0)
    means = [f"{signed(mean)}{attribute.unit}" for mean in profile]
    metrics = {
        f"attribute_r2.{name}": explained,
        f"attribute_spearman.{name}": correlation,
        f"attribute_change.{name}": profile[-1] - profile[0],
    }
    within = " within a class" if space.conditional else ""
    caption = (
        f"Each row moves the code of one held-out image along the direction of {name}, {attribute.meaning}, by so many "
        f"standard deviations. A linear reading of held-out codes explains {percent(explained)} of how {name} varies"
        f"{within} (R²). Measured again in the decoded pictures of {len(rows)} images, {name} goes from {means[0]} to "
        f"{means[-1]} on average, and follows the slider with a rank correlation of {signed(correlation, 2)} (1: it "
        "rises at every step)."
    )
    shown = slice(min(config.examples, len(rows)))
    panel = Panel(
        "sliders",
        f"{name.capitalize()}: less to the left, more to the right",
        caption,
        tuple(class_name(held.images, row) for row in rows[shown]),
        ("image", *map(step_name, positions)),
        np.concatenate([held.images.images[rows[shown], None], decoded[shown]], axis=1),
        apart=(1,),
        footer=("mean", *means),
    )
    return Findings(metrics, [panel], {})

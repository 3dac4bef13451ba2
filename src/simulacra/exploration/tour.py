"""All tools for one latent space, one after the other."""

from typing import TYPE_CHECKING, NamedTuple

from simulacra.data.image_set import ImageSet
from simulacra.exploration.arithmetic import arithmetic
from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.findings import Findings
from simulacra.exploration.interpolation import interpolations
from simulacra.exploration.maps import map_codes
from simulacra.exploration.panels import Panel
from simulacra.exploration.reconstruction import reconstructions
from simulacra.exploration.sliders import slider
from simulacra.exploration.space import LatentModel, LatentSpace
from simulacra.exploration.traversals import traversals

if TYPE_CHECKING:
    from pandas import DataFrame


class Exploration(NamedTuple):
    """What all tools found, the map (columns row, label, pca_1, pca_2, tsne_1, tsne_2), and what is seen on it."""

    metrics: dict[str, float]
    panels: list[Panel]
    omitted: dict[str, str]
    latent_map: "DataFrame"
    map_caption: str


def explore(
    model: LatentModel, learn: ImageSet, held_out: ImageSet, config: ExplorationConfig, *, seed: int
) -> Exploration:
    """Return what all tools find.

    Args:
        model: a fitted family with codes.
        learn: images that the model was not fitted to; directions and class means are learnt from their codes.
        held_out: other such images; everything is shown and measured with them.
        config: how much of everything.
        seed: decides the map.
    """
    first = range(min(config.n_images, len(learn))), range(min(config.n_images, len(held_out)))
    space = LatentSpace(model, learn.take(first[0]), held_out.take(first[1]))
    table, trust, caption = map_codes(space, seed)
    found = [
        reconstructions(space),
        interpolations(space, config),
        arithmetic(space, config),
        *(slider(space, name, config) for name in config.attributes),
        traversals(space, config),
        Findings(trust, [], {}),
    ]
    return Exploration(
        {key: value for findings in found for key, value in findings.metrics.items()},
        [panel for findings in found for panel in findings.panels],
        {key: reason for findings in found for key, reason in findings.omitted.items()},
        table,
        caption,
    )

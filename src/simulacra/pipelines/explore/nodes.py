"""Look into a family's latent space, and draw what is found."""

from typing import TYPE_CHECKING, Any, cast

from simulacra.exploration.config import ExplorationConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import DataFrame, Figure, ImageModel, ImageSet
from simulacra.pipelines.checks import refuse_other_split
from simulacra.pipelines.config import FamilyConfig

if TYPE_CHECKING:
    from simulacra.exploration.space import LatentModel

FIGURES = ("reconstructions", "interpolations", "arithmetic", "sliders", "traversals")
"""Names of the tools' figures, in the record of an exploration and in the catalog."""


@skippable
def explore(
    model: ImageModel,
    validation_set: ImageSet,
    test_set: ImageSet,
    split_record: dict[str, Any],
    exploration: ExplorationConfig,
    seed: int,
) -> tuple[dict[str, Any], ImageSet, DataFrame]:
    """Return a record of what the latent-space tools found, the pixels of their pictures, and a map of the test images.

    Directions are learnt from validation images; everything is shown and measured with test images.

    Raises:
        SimulacraError: where the model was fitted to another split than today's, some of whose test rows it may have
            seen.
    """
    from simulacra.exploration import tour
    from simulacra.exploration.panels import pack

    refuse_other_split(model.name, model.train_sha256, split_record["splits"]["train"]["fingerprint"])
    found = tour.explore(cast("LatentModel", model), validation_set, test_set, exploration, seed=seed)
    images, panels = pack(found.panels, test_set.shape)
    record = {
        "model_sha256": model.fingerprint(),
        "metrics": found.metrics,
        "omitted": found.omitted,
        "class_names": list(test_set.class_names),
        "map_caption": found.map_caption,
        "panels": panels,
    }
    return record, images, found.latent_map


@skippable
def draw_panels(exploration: dict[str, Any], explored_images: ImageSet) -> tuple[Figure, ...]:
    """Draw one figure a tool, in the order of `FIGURES`."""
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import picture_table

    panels = unpack(exploration["panels"], explored_images)
    return tuple(picture_table([panel for panel in panels if panel.figure == name]) for name in FIGURES)


@skippable
def map_latents(
    latent_map: DataFrame,
    exploration: dict[str, Any],
    test_set: ImageSet,
    experiment: dict[str, Any],
    config: FamilyConfig,
) -> tuple[Figure, Any, str]:
    """Return the map as a picture, as a plotly figure, and as a page that shows each point's image."""
    from simulacra.plotting import latent_scatter
    from simulacra.report.latent_map import map_figure, render_map

    names = exploration["class_names"]
    figure = map_figure(latent_map, names)
    page = render_map(
        figure,
        test_set.take(range(len(latent_map))),
        title=f"Map of the codes of {experiment['dataset']} by {config.family}",
        lead=exploration["map_caption"],
    )
    return latent_scatter(latent_map, names), figure, page

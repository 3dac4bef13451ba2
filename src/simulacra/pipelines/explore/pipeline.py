"""Template of the stage `explore`, once a dataset and family with codes."""

from kedro.pipeline import Node, Pipeline

from simulacra.models import Family
from simulacra.pipelines.explore.nodes import FIGURES, draw_panels, explore, map_latents


def create_pipeline(family: Family) -> Pipeline:
    """Return model, held-out images → numbers and pictures of the latent space, and its map as an interactive page.

    A family without codes has nothing to look into.
    """
    if not family.latent:
        return Pipeline([])
    held_out = ["validation_set", "test_set", "split_record"]
    return Pipeline(
        [
            Node(
                explore,
                ["model", *held_out, "params:exploration", "params:seed"],
                ["exploration", "explored_images", "latent_map"],
                name="explore",
                tags="explore",
            ),
            Node(draw_panels, ["exploration", "explored_images"], [*FIGURES], name="draw_panels", tags="explore"),
            Node(
                map_latents,
                ["latent_map", "exploration", "test_set", "params:experiment", "params:family"],
                ["latent_map_picture", "latent_map_figure", "latent_map_page"],
                name="map_latents",
                tags="explore",
            ),
        ]
    )

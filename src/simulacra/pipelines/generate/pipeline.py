"""Template of the stage `generate`, once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.models import Family
from simulacra.pipelines.generate.nodes import draw, draw_filmed, generate, plot_drawn, plot_film, plot_samples
from simulacra.pipelines.generate.texts import draw_texts, generate_texts


def create_pipeline(family: Family) -> Pipeline:
    """Return model → samples that are judged, and what a reader asks for; of a family that denoises with a film."""
    inputs = ["model", "params:generation", "params:seed"]
    outputs = ["samples", "generation_record", "generation_cost"]
    asked, drawn = ["model", "params:family", "params:sampling"], ["drawn", "drawn_pictures", "drawing_record"]
    nodes = [
        Node(generate, inputs, outputs, name="generate", tags="generate"),
        Node(plot_samples, "samples", "grid", name="plot_samples", tags="generate"),
        Node(plot_drawn, "drawn", "drawn_grid", name="plot_drawn", tags="generate"),
    ]
    if not family.denoises:
        return Pipeline([*nodes, Node(draw, asked, drawn, name="draw", tags="generate")])
    filmed = [
        Node(draw_filmed, asked, [*drawn, "film"], name="draw", tags="generate"),
        Node(plot_film, ["drawing_record", "film"], ["filmstrip", "animation"], name="plot_film", tags="generate"),
    ]
    return Pipeline([*nodes, *filmed])


def create_text_pipeline() -> Pipeline:
    """Return model → texts that are judged, and what a reader asks for."""
    outputs = ["texts", "generation_record", "generation_cost"]
    asked = ["model", "params:family", "params:sampling"]
    return Pipeline(
        [
            Node(
                generate_texts, ["model", "params:language", "params:seed"], outputs, name="generate", tags="generate"
            ),
            Node(draw_texts, asked, ["drawn_texts", "drawing_record"], name="draw", tags="generate"),
        ]
    )

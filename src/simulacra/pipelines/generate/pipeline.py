"""Template of the stage `generate`, once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.generate.nodes import generate, plot_samples


def create_pipeline() -> Pipeline:
    """Return model → samples, grid."""
    inputs = ["model", "params:generation", "params:seed"]
    outputs = ["samples", "generation_record", "generation_cost"]
    return Pipeline(
        [
            Node(generate, inputs, outputs, name="generate", tags="generate"),
            Node(plot_samples, "samples", "grid", name="plot_samples", tags="generate"),
        ]
    )

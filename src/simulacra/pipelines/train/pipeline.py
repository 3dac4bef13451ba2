"""Template of the stage `train`, once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.train.nodes import fit, fit_texts, plot_curves

SETTINGS = ["former", "checkpoints", "params:family", "params:seed", "params:experiment"]


def create_pipeline() -> Pipeline:
    """Return train_set, former → model, history, curves."""
    inputs = ["train_set", "validation_set", *SETTINGS]
    return Pipeline(
        [
            Node(fit, inputs, ["model", "history", "training_record"], name="fit", tags="train"),
            Node(plot_curves, "history", "curves", name="plot_curves", tags="train"),
        ]
    )


def create_text_pipeline() -> Pipeline:
    """Return train_texts, former → model, history, curves."""
    inputs = ["train_texts", "validation_texts", *SETTINGS]
    return Pipeline(
        [
            Node(fit_texts, inputs, ["model", "history", "training_record"], name="fit", tags="train"),
            Node(plot_curves, "history", "curves", name="plot_curves", tags="train"),
        ]
    )

"""Template of the stage `train`, once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.train.nodes import fit, fit_texts, plot_curves


def create_pipeline() -> Pipeline:
    """Return train_set → model, history, curves."""
    inputs = ["train_set", "validation_set", "checkpoints", "params:family", "params:seed", "params:experiment"]
    return Pipeline(
        [
            Node(fit, inputs, ["model", "history", "training_record"], name="fit", tags="train"),
            Node(plot_curves, "history", "curves", name="plot_curves", tags="train"),
        ]
    )


def create_text_pipeline() -> Pipeline:
    """Return train_texts → model, history, curves."""
    inputs = ["train_texts", "validation_texts", "checkpoints", "params:family", "params:seed", "params:experiment"]
    return Pipeline(
        [
            Node(fit_texts, inputs, ["model", "history", "training_record"], name="fit", tags="train"),
            Node(plot_curves, "history", "curves", name="plot_curves", tags="train"),
        ]
    )

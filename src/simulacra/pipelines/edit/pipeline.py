"""Templates of the stage `edit`: once a dataset, and once a dataset and family that denoises."""

from kedro.pipeline import Node, Pipeline

from simulacra.models import Family
from simulacra.pipelines.edit.nodes import FIGURES, draw_edits, edit, read_pictures


def create_dataset_pipeline() -> Pipeline:
    """Return test images or the user's own → the pictures to edit, and the mask."""
    made = ["edit_pictures", "edit_mask", "edit_source"]
    return Pipeline([Node(read_pictures, ["test_set", "params:editing"], made, name="read_pictures", tags="edit")])


def create_family_pipeline(family: Family) -> Pipeline:
    """Return model, pictures → edited pictures, numbers and figures, of a family that denoises."""
    if not family.denoises:
        return Pipeline([])
    given = ["edit_pictures", "edit_mask", "edit_source", "train_set", "test_set", "split_record"]
    judged = ["extractor", "extractor_record", "params:editing", "params:experiment", "params:seed"]
    return Pipeline(
        [
            Node(edit, ["model", *given, *judged], ["edits", "edited_images"], name="edit", tags="edit"),
            Node(draw_edits, ["edits", "edited_images"], [*FIGURES], name="draw_edits", tags="edit"),
        ]
    )

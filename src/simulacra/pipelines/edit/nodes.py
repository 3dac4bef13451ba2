"""Read what is to be edited, edit it, and draw before and after."""

from typing import TYPE_CHECKING, Any, cast

from simulacra.editing.config import EditingConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import Figure, ImageClassifier, ImageModel, ImageSet
from simulacra.pipelines.checks import refuse_other_split

if TYPE_CHECKING:
    from simulacra.models.diffusion import Diffusion

NAMED = 5
"""Pictures of the user's that are named before they are only counted."""
FIGURES = ("inpainting", "image_to_image", "noise_interpolation")
"""Names of the edits' figures, in the record of the edits and in the catalog."""


@skippable
def read_pictures(test_set: ImageSet, editing: EditingConfig) -> tuple[ImageSet, ImageSet, dict[str, Any]]:
    """Return the pictures to edit, the mask as one grey picture, white where it is filled, and where they came from."""
    import numpy as np

    from simulacra.data.image_set import ImageSet
    from simulacra.editing.pictures import read_pictures

    found = read_pictures(editing, test_set)
    mask = ImageSet(np.where(found.mask, np.uint8(255), np.uint8(0))[None, None])
    record = {
        "source": "test images" if editing.images is None else str(editing.images),
        "names": list(found.names),
        "mask": editing.mask if editing.box is None else list(editing.box),
        "remarks": found.remarks,
    }
    return found.images, mask, record


@skippable
def edit(
    model: ImageModel,
    edit_pictures: ImageSet,
    edit_mask: ImageSet,
    edit_source: dict[str, Any],
    train_set: ImageSet,
    test_set: ImageSet,
    split_record: dict[str, Any],
    extractor: ImageClassifier,
    extractor_record: dict[str, Any],
    editing: EditingConfig,
    experiment: dict[str, Any],
    seed: int,
) -> tuple[dict[str, Any], ImageSet]:
    """Return a record of what was edited and measured, and the pixels of its pictures.

    Raises:
        SimulacraError: where the model was fitted to another split than today's, some of whose test rows it may have
            seen.
    """
    import numpy as np

    from simulacra.editing import tour
    from simulacra.editing.editor import Editor
    from simulacra.exploration.panels import pack
    from simulacra.exploration.space import in_turn
    from simulacra.metrics.features import NetworkExtractor

    refuse_other_split(model.name, model.train_sha256, split_record["splits"]["train"]["fingerprint"])
    judge = None
    if test_set.labels is not None:
        judge = NetworkExtractor(extractor.network, name=extractor_record["name"], channels=extractor.in_channels)
        test_set = test_set.take(in_turn(test_set.labels, editing.n_images))
    mean = np.rint(train_set.images.mean(axis=0)).astype(np.uint8)
    names, mask = tuple(edit_source["names"]), edit_mask.images[0, 0] > 0
    bench = tour.Bench(edit_pictures, names, mask, test_set, mean, judge)
    seed = seed if editing.seed is None else editing.seed
    found = tour.edit(Editor(cast("Diffusion", model)), bench, editing, seed=seed)
    images, panels = pack(found.panels, edit_pictures.shape)
    record = {
        "model_sha256": model.fingerprint(),
        "about": about(edit_source, edit_pictures.shape),
        "metrics": found.metrics,
        "omitted": found.omitted,
        "sentence": found.sentence,
        "source": edit_source,
        "seed": seed,
        "settings": editing.model_dump(mode="json", include={"resamplings", "jump", "steps", "mask", "box"}),
        "command": command(experiment),
        "panels": panels,
    }
    return record, images


def about(source: dict[str, Any], shape: tuple[int, int, int]) -> str:
    """Return in words what was edited, and what had to be done to it first."""
    if not source["names"]:
        return "Edited are test images, which the family was not fitted to, the first of every class."
    remarks, many = source["remarks"], len(source["names"])
    sizes = [
        f"{name} ({width}×{height})" for name, (width, height) in zip(source["names"], remarks["sizes"], strict=True)
    ]
    few = ", ".join(sizes[:NAMED]) + (f" and {many - NAMED} more" if many > NAMED else "")
    return (
        f"Edited: {few}. Of {many}, {remarks['resized']} had to be resized to {shape[2]}×{shape[1]} pixels, and "
        f"{remarks['converted']} converted to {'grey' if shape[0] == 1 else 'colour'}."
    )


def command(experiment: dict[str, Any]) -> str:
    """Return the command that edits a picture of one's own, in the same environment."""
    dataset, environment = experiment["dataset"], experiment["options"].partition(" --params")[0]
    said = f"{dataset}.editing.images=my_picture.png,{dataset}.editing.mask=left"
    return f"kedro run --pipelines edit,report --namespaces {dataset}{environment} --params {said}"


@skippable
def draw_edits(edits: dict[str, Any], edited_images: ImageSet) -> tuple[Figure, ...]:
    """Draw one figure a kind of edit, in the order of `FIGURES`."""
    from simulacra.exploration.panels import unpack
    from simulacra.plotting import picture_table

    panels = unpack(edits["panels"], edited_images)
    return tuple(picture_table([panel for panel in panels if panel.figure == name]) for name in FIGURES)

"""All edits of one model in one go: pictures, and what can be measured of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.editing.config import EditingConfig
from simulacra.editing.editor import Editor
from simulacra.editing.masks import Mask, with_hole
from simulacra.editing.measures import Share, decibels, root_mean_square, share
from simulacra.errors import SimulacraError
from simulacra.exploration.findings import Findings, class_name, percent
from simulacra.exploration.panels import Panel
from simulacra.metrics.features import FeatureExtractor
from simulacra.models.base import Condition

Pixels = NDArray[np.uint8]
FILLS = 3
"""Fills of each picture that are shown: there is more than one good answer."""
LONGEST_NAME = 12


class Bench(NamedTuple):
    """What edits are tried on and measured with.

    Args:
        pictures: what is edited and shown, with classes where they are known.
        names: of the user's files; empty for test images.
        mask: true where pictures are filled.
        test: test images that fills are measured with.
        mean: mean of the training images, (channels, height, width), which the baseline fills with.
        judge: tells classes; None where the data have none.
    """

    pictures: ImageSet
    names: tuple[str, ...]
    mask: Mask
    test: ImageSet
    mean: Pixels
    judge: FeatureExtractor | None


class Edits(NamedTuple):
    """What all edits found, and in one sentence how good the fills are."""

    metrics: dict[str, float]
    panels: list[Panel]
    omitted: dict[str, str]
    sentence: str


def edit(editor: Editor, bench: Bench, config: EditingConfig, *, seed: int) -> Edits:
    """Return what all edits find; one that its model cannot make is left out, with the reason.

    Args:
        editor: of a fitted model.
        bench: what is edited.
        config: how.
        seed: decides all noise.
    """
    found, omitted, sentence = [], {}, ""
    for name, attempt in {
        "inpainting": inpainting,
        "image to image": redrawing,
        "interpolation": interpolation,
    }.items():
        try:
            found.append(attempt(editor, bench, config, seed))
        except SimulacraError as error:
            omitted[name] = str(error)
    if "inpainting" not in omitted:
        measured, sentence = fill_accuracy(editor, bench, config, seed)
        found.append(measured)
    return Edits(
        {key: value for findings in found for key, value in findings.metrics.items()},
        [panel for findings in found for panel in findings.panels],
        omitted | {key: reason for findings in found for key, reason in findings.omitted.items()},
        sentence,
    )


def inpainting(editor: Editor, bench: Bench, config: EditingConfig, seed: int) -> Findings:
    """Return pictures beside their fills, with and without their class told, and beside the mean image's."""
    images, told = bench.pictures.images, _classes(editor, bench)
    fills = [_filled(editor, bench, images, config, seed + turn) for turn in range(FILLS)]
    columns = {"image": images, "hole": with_hole(images, bench.mask)}
    columns |= {f"fill {turn + 1}": fill for turn, fill in enumerate(fills)}
    if told is not None:
        columns["class told"] = _filled(editor, bench, images, config, seed, told)
    columns["mean"] = np.where(bench.mask, bench.mean, images)
    classes = " The column “class told” is filled by a model that was told the class." if told is not None else ""
    caption = (
        f"A part of each picture is taken away ({_extent(bench.mask)}, grey) and drawn anew by what is left around it. "
        f"The {FILLS} fills differ in nothing but the noise they begin with, and none was told what the picture shows: "
        f"where they disagree, the rest of the picture allows for more than one answer.{classes} The last column has "
        "the training images' mean in the hole. Every pixel outside the hole is the picture's own, byte for byte."
    )
    panel = Panel(
        "inpainting",
        "Fill a hole",
        caption,
        _row_names(bench),
        tuple(columns),
        np.stack(list(columns.values()), axis=1),
        apart=(2, 2 + FILLS, len(columns) - 1) if told is not None else (2, 2 + FILLS),
    )
    return Findings({}, [panel], {})


def redrawing(editor: Editor, bench: Bench, config: EditingConfig, seed: int) -> Findings:
    """Return pictures redrawn at every strength, and how far they went from what they were."""
    images, told = bench.pictures.images, _classes(editor, bench)
    redrawn = {
        strength: editor.image_to_image(images, strength=strength, condition=told, steps=config.steps, seed=seed).images
        for strength in config.strength
    }
    distances = {strength: root_mean_square(images, found) for strength, found in redrawn.items()}
    listed = ", ".join(f"{distance:.3f} at {strength:g}" for strength, distance in distances.items())
    caption = (
        "Noise is added to each picture and undone again: what the noise hid is drawn anew, the rest stays. The "
        "strength, above each column, is the share of the way to pure noise: 0 would return the picture, 1 forgets it. "
        f"{'The model was told the class. ' if told is not None else ''}"
        f"Pixels counting from 0 to 1, the root mean squared distance from the picture is {listed}."
    )
    panel = Panel(
        "image_to_image",
        "Redraw",
        caption,
        _row_names(bench),
        ("image", *(f"{strength:g}" for strength in redrawn)),
        np.stack([images, *redrawn.values()], axis=1),
        apart=(1,),
    )
    return Findings(
        {f"redrawn_distance.{strength:g}": distance for strength, distance in distances.items()}, [panel], {}
    )


def interpolation(editor: Editor, bench: Bench, config: EditingConfig, seed: int) -> Findings:
    """Return paths through noise between pictures that are neighbours in the list, and how well their ends are met."""
    images = bench.pictures.images
    starts = np.arange(len(images) - 1)[: config.pairs]
    if not len(starts):
        return Findings({}, [], {"interpolation": "it takes two pictures at least, and one pair"})
    first, last = images[starts], images[starts + 1]
    path = editor.interpolate(first, last, pictures=config.pictures, steps=config.steps, seed=seed).images
    path = path.reshape(len(starts), config.pictures, *images.shape[1:])
    met = decibels(np.concatenate([first, last]), np.concatenate([path[:, 0], path[:, -1]]))
    names = _row_names(bench)
    caption = (
        "Each picture at the far left and right is led back to the noise that it could have come from; in between, the "
        "noise passes evenly from the one to the other, and is turned into pictures again. The model was told no "
        f"class. At the ends the pictures come back with a peak signal-to-noise ratio of {met:.1f} dB; above 30 dB a "
        "difference is hard to see."
    )
    panel = Panel(
        "noise_interpolation",
        "From one picture to another through noise",
        caption,
        tuple(_between(names[start], names[start + 1]) for start in starts),
        ("image", *(f"{place:.2g}" for place in np.linspace(0, 1, config.pictures)), "image"),
        np.concatenate([first[:, None], path, last[:, None]], axis=1),
        apart=(1, config.pictures + 1),
    )
    return Findings({"interpolation_psnr": met}, [panel], {})


def fill_accuracy(editor: Editor, bench: Bench, config: EditingConfig, seed: int) -> tuple[Findings, str]:
    """Return how often the judge takes filled test images for what they were, and the baseline's, in numbers and words.

    The model is not told the class; beside it, where it can be told, how it does with it.

    Raises:
        SimulacraError: where a fill changed a pixel outside the hole.
    """
    if bench.judge is None or bench.test.labels is None:
        reason = "the data have no classes by which a classifier could tell whether a fill is right"
        return Findings({}, [], {"accuracy of fills": reason}), ""
    images, labels, told = bench.test.images, bench.test.labels, bench.test.labels if editor.conditional else None
    kinds = {
        "fill": _filled(editor, bench, images, config, seed),
        "mean_fill": np.where(bench.mask, bench.mean, images),
    }
    kinds |= {"fill_told": _filled(editor, bench, images, config, seed, told)} if told is not None else {}
    kinds["untouched"] = images
    changed = int(np.count_nonzero((kinds["fill"] != images) & ~bench.mask))
    if changed:
        raise SimulacraError(f"a fill changed {changed} pixels outside the hole, which it must not: please report it")
    shares = {kind: share(bench.judge.probabilities(found).argmax(1) == labels) for kind, found in kinds.items()}
    metrics = {
        key: value
        for kind, found in shares.items()
        for key, value in {
            f"{kind}_accuracy": found.value,
            f"{kind}_low": found.low,
            f"{kind}_high": found.high,
        }.items()
    }
    counts = {"fill_images": len(images), "fill_changed_outside": changed}
    return Findings(metrics | counts, [], {}), _sentence(shares, len(images))


def _sentence(shares: dict[str, Share], n: int) -> str:
    """Return the accuracy of fills in words."""
    told = f"; told the class, {percent(shares['fill_told'].value)}" if "fill_told" in shares else ""
    fill, mean = shares["fill"], shares["mean_fill"]
    if fill.low > mean.high:
        outcome = "so the fills are right more often than the mean"
    else:
        outcome = "so the mean is right more often" if mean.low > fill.high else "so neither is surely the better"
    return (
        f"Of {n:,} test images the classifier takes {_with_interval(fill)} for their own class once the hole is "
        f"filled, without the model being told it{told}. With the training images' mean in the hole it is "
        f"{_with_interval(mean)}, and with nothing taken away {percent(shares['untouched'].value)}. "
        f"In brackets are 95 % Wilson intervals, {outcome}."
    )


def _with_interval(found: Share) -> str:
    return f"{percent(found.value)} ({100 * found.low:.0f} to {100 * found.high:.0f})"


def _filled(
    editor: Editor, bench: Bench, images: Pixels, config: EditingConfig, seed: int, told: Condition = None
) -> Pixels:
    options = config.model_dump(include={"resamplings", "jump", "steps"})
    return editor.inpaint(images, bench.mask, condition=told, seed=seed, **options).images


def _classes(editor: Editor, bench: Bench) -> NDArray[np.int64] | None:
    """Return the classes of what is edited, where they are known and the model knows classes."""
    return bench.pictures.labels if editor.conditional else None


def _extent(mask: Mask) -> str:
    return f"{percent(float(mask.mean()))} of it"


def _row_names(bench: Bench) -> tuple[str, ...]:
    """Return what stands before each row: the file's name, or the class."""
    return bench.names or tuple(class_name(bench.pictures, row) for row in range(len(bench.pictures)))


def _between(start: str, end: str) -> str:
    """Return what stands before a path."""
    return f"{start}{' → ' if len(start + end) <= LONGEST_NAME else ' →' + chr(10)}{end}" if start + end else ""

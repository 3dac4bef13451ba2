"""The tools, on a model whose codes are known: lean and width of a bar, and coordinates that nothing is made of."""

from typing import Any

import numpy as np
import pytest

from simulacra.data.attributes import brightness, slant, thickness
from simulacra.data.image_set import ImageSet
from simulacra.exploration.arithmetic import arithmetic
from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.interpolation import interpolations
from simulacra.exploration.panels import Panel
from simulacra.exploration.reconstruction import reconstructions
from simulacra.exploration.sliders import slider
from simulacra.exploration.space import LatentSpace, means_of
from simulacra.exploration.tour import explore
from simulacra.exploration.traversals import traversals

SIZE = 21
CONFIG = ExplorationConfig(examples=3, pairs=3, steps=5, dimensions=3)


def draw(lean: np.ndarray, width: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Bars of so many degrees, pixels and grey levels, (n, 1, SIZE, SIZE)."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    lean, width, level = (np.asarray(each, float)[:, None, None] for each in (lean, width, level))
    across = np.abs(x + np.tan(np.radians(np.clip(lean, -60, 60))) * y)
    ink = np.clip(np.maximum(width, 0.5) / 2 + 0.5 - across, 0, 1) * np.clip(7.5 - np.abs(y), 0, 1)
    return np.rint(level * ink).astype(np.uint8)[:, None]


class Bars:
    """Codes are tens of degrees, thickness, and idle zeros; a conditional one takes the brightness from the class."""

    def __init__(self, *, conditional: bool = False, idle: int = 1, blind: bool = False) -> None:
        self.conditional, self.idle, self.blind = conditional, idle, blind

    def encode(self, data: ImageSet) -> np.ndarray:
        known = np.stack([slant(data.images) / 10, thickness(data.images)], axis=1)
        return np.concatenate([known, np.zeros((len(data), self.idle))], axis=1).astype(np.float32)

    def decode(self, z: np.ndarray, *, condition: Any = None) -> ImageSet:
        level = np.full(len(z), 255) if condition is None else np.array([255, 120, 180])[condition]
        return ImageSet(draw(0 * z[:, 0] if self.blind else 10 * z[:, 0], z[:, 1], level))


def bars(n: int, seed: int, *, classes: int = 3) -> ImageSet:
    """Bars of any lean; the class says how wide they are."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % max(classes, 1))
    images = draw(rng.normal(5, 10, n), 1.5 + 1.5 * labels + rng.uniform(0, 1, n), np.full(n, 255))
    names = tuple(f"width {k}" for k in range(classes))
    return ImageSet(images, labels if classes else None, names)


def space(model: Bars | None = None, *, classes: int = 3) -> LatentSpace:
    return LatentSpace(model or Bars(), bars(150, 0, classes=classes), bars(120, 1, classes=classes))


def one(panels: list[Panel]) -> Panel:
    (panel,) = panels
    assert panel.images.shape == (len(panel.rows), len(panel.columns), 1, SIZE, SIZE)
    assert panel.caption.endswith((".", ")."))
    return panel


def test_reconstructions_stand_below_their_images() -> None:
    found = reconstructions(space())
    panel = one(found.panels)
    assert panel.images.shape[:2] == (4, 10)
    for above, below in ((0, 1), (2, 3)):
        assert slant(panel.images[below]) == pytest.approx(slant(panel.images[above]), abs=3)
    held = space().held_out
    expected = ((space().decode(held.codes, held.groups) / 255 - held.images.images / 255) ** 2).mean()
    assert found.metrics["reconstruction_mse"] == pytest.approx(expected, rel=1e-5)
    assert 0.5 < found.metrics["reconstruction_r2"] < 1 and f"{expected:.4f}" in panel.caption


def test_an_attribute_that_is_a_coordinate_is_read_moved_and_measured_again() -> None:
    found = slider(space(), "slant", CONFIG)
    assert found.metrics["attribute_r2.slant"] == pytest.approx(1, abs=1e-3)
    assert found.metrics["attribute_spearman.slant"] > 0.99
    panel = one(found.panels)
    # Columns are the image itself and −3 to +3 deviations; 0 is the reconstruction.
    middle = slant(panel.images[:, 4])
    assert middle == pytest.approx(slant(panel.images[:, 0]), abs=3)
    deviation = slant(bars(150, 0).images).std()
    assert slant(panel.images[:, 6]) - slant(panel.images[:, 2]) == pytest.approx(4 * deviation, rel=0.1)
    assert panel.columns == ("image", "−3", "−2", "−1", "0", "+1", "+2", "+3") and panel.footer[0] == "mean"


def test_a_decoder_that_does_not_follow_the_code_is_found_out() -> None:
    metrics = slider(space(Bars(blind=True)), "slant", CONFIG).metrics
    assert metrics["attribute_r2.slant"] == pytest.approx(1, abs=1e-3)
    assert metrics["attribute_spearman.slant"] < 0.5 and abs(metrics["attribute_change.slant"]) < 1


def test_an_attribute_within_a_class_is_not_credited_with_what_the_class_tells() -> None:
    told, untold = (space(Bars(conditional=conditional)) for conditional in (True, False))
    # Codes without the width: the class alone tells most of it.
    for each in (told, untold):
        for part in (each.learnt, each.held_out):
            part.codes[:, 1] = part.classes
        each.centres = means_of(each.learnt.codes, each.learnt.groups, each.n_groups)
    assert slider(untold, "thickness", CONFIG).metrics["attribute_r2.thickness"] > 0.8
    assert slider(told, "thickness", CONFIG).metrics["attribute_r2.thickness"] < 0.1


def test_an_attribute_that_never_varies_is_left_out_with_the_reason() -> None:
    flat = ImageSet(np.repeat(bars(1, 0).images, 40, axis=0))
    found = slider(LatentSpace(Bars(), flat, flat), "slant", CONFIG)
    assert found.omitted == {"slant": "slant is the same in every image"} and not found.panels


def test_paths_lead_between_classes_or_stay_in_one_where_the_model_is_told_it() -> None:
    free, told = (interpolations(space(Bars(conditional=conditional)), CONFIG) for conditional in (False, True))
    assert one(free.panels).rows[:2] == ("width 0 →\nwidth 1\nline", "width 0 →\nwidth 1\narc")
    assert "two classes" in one(free.panels).caption
    assert one(told.panels).rows[:2] == ("width 0\nline", "width 0\narc")
    assert "one class, which stays the same" in one(told.panels).caption
    plain = one(interpolations(space(classes=0), CONFIG).panels)
    assert plain.rows[:2] == ("line", "arc") and "class" not in plain.caption


def test_a_path_runs_from_one_image_s_reconstruction_to_the_other_s() -> None:
    panel = one(interpolations(space(), CONFIG).panels)
    assert panel.images.shape[:2] == (6, 7)
    leans = np.stack([slant(row) for row in panel.images])
    assert leans[:, 1] == pytest.approx(leans[:, 0], abs=3) and leans[:, 5] == pytest.approx(leans[:, 6], abs=3)
    straight = leans[::2, 1:6]
    assert straight == pytest.approx(np.linspace(straight[:, 0], straight[:, -1], 5, axis=1), abs=3)
    assert 0 < interpolations(space(), CONFIG).metrics["halfway_distance"] < 1


def test_no_two_images_no_path() -> None:
    single = bars(1, 0, classes=0)
    found = interpolations(LatentSpace(Bars(), single, single), CONFIG)
    assert "interpolations" in found.omitted and not found.panels


def test_arithmetic_takes_the_class_and_keeps_the_manner() -> None:
    panel = one(arithmetic(space(), CONFIG).panels)
    assert panel.rows[0] == "width 1\n− width 0\n+ x"
    x, result = panel.images[0, 2::2], panel.images[0, 3::2]
    assert slant(result) == pytest.approx(slant(x), abs=4)
    learnt = bars(150, 0)
    means = [thickness(learnt.images[learnt.labels == label]).mean() for label in (1, 0)]
    width = thickness(x) + means[0] - means[1]
    # What is drawn as wide as the code says measures less, by the ends of the bar, 15 pixels apart.
    assert thickness(result) == pytest.approx(15 * width / (15 + width), rel=0.1)
    # The last pair goes round: from the widest to the narrowest.
    assert panel.rows[2] == "width 0\n− width 2\n+ x"
    assert (thickness(panel.images[2, 3::2]) < thickness(panel.images[2, 2::2]) - 1).all()


def test_arithmetic_tells_a_conditional_decoder_the_class_of_the_result() -> None:
    panel = one(arithmetic(space(Bars(conditional=True)), CONFIG).panels)
    assert panel.images[0, 3::2].max(axis=(1, 2, 3)).tolist() == [120] * 3
    assert panel.images[0, 1].max() == 255 and "told the class" in panel.caption


@pytest.mark.parametrize("classes", [0, 1])
def test_arithmetic_needs_two_classes(classes: int) -> None:
    found = arithmetic(space(classes=classes), CONFIG)
    assert found.omitted == {"arithmetic": "it needs images of two classes at least"} and not found.panels


def test_traversals_take_the_coordinates_that_vary_most_first() -> None:
    found = traversals(space(Bars(idle=4)), CONFIG)
    panel = one(found.panels)
    assert panel.rows[:2] == ("z1", "z2") and found.metrics["latent_dim"] == 6
    assert 1 < found.metrics["effective_dimensions"] < 2
    leans = slant(panel.images[0, 1:])
    assert (np.diff(leans) > 0).all() and np.ptp(slant(panel.images[2, 1:])) == 0
    # The coordinate is set to its usual range, whatever the image's own value was.
    known = slant(bars(150, 0).images)
    assert leans[3] == pytest.approx(known.mean(), abs=2) and leans[5] == pytest.approx(
        known.mean() + 2 * known.std(), abs=3
    )


def test_of_many_coordinates_principal_components_are_traversed() -> None:
    panel = one(traversals(space(Bars(idle=100)), CONFIG).panels)
    assert panel.rows[0] == "component 1" and "principal component" in panel.caption
    assert np.ptp(slant(panel.images[0, 1:])) > 30


@pytest.mark.parametrize(("classes", "conditional"), [(3, True), (3, False), (1, True), (0, False)])
def test_the_tour_is_whole_and_the_same_for_the_same_seed(classes: int, conditional: bool) -> None:
    parts = Bars(conditional=conditional), bars(60, 0, classes=classes), bars(40, 1, classes=classes)
    first, second = (explore(*parts, CONFIG, seed=3) for _ in range(2))
    assert all(np.isfinite(value) for value in first.metrics.values()) and first.metrics == second.metrics
    assert [panel.title for panel in first.panels] == [panel.title for panel in second.panels]
    assert all((a.images == b.images).all() for a, b in zip(first.panels, second.panels, strict=True))
    assert first.latent_map.equals(second.latent_map) and len(first.latent_map) == 40
    assert ("neighbour_agreement" in first.metrics) == (classes > 1)
    expected = parts[2].labels if classes else np.full(40, -1)
    assert first.latent_map["label"].tolist() == expected.tolist()


def test_no_more_images_are_looked_at_than_were_asked_for() -> None:
    few = CONFIG.model_copy(update={"n_images": 10})
    assert len(explore(Bars(), bars(60, 0), bars(40, 1), few, seed=0).latent_map) == 10


def test_brightness_is_measured_of_the_whole_image() -> None:
    found = slider(space(), "brightness", CONFIG)
    panel = one(found.panels)
    measured = brightness(panel.images[:, 1:].reshape(-1, 1, SIZE, SIZE)).reshape(3, 7)
    assert (np.diff(measured, axis=1) > -0.05).all() and panel.footer[1].endswith(" %")

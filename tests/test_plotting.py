"""The figures hold what they are given: pixels, lines, labels, references."""

import sys
import warnings
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from simulacra.data.image_set import ImageSet
from simulacra.exploration.panels import Panel
from simulacra.plotting import (
    augmentation_figure,
    drawing_grid,
    film_frames,
    latent_scatter,
    metric_chart,
    pareto_figure,
    picture_table,
    png,
    radar_figure,
    response_figure,
    sample_grid,
    training_curves,
)
from simulacra.report.leaderboard import leaderboard


def labelled(n_classes: int, per_class: int, *, shape: tuple[int, int, int] = (1, 6, 6), names=None) -> ImageSet:
    """Images of one shade each, different for every image, classes interleaved."""
    labels = np.tile(np.arange(n_classes), per_class)
    shades = np.arange(len(labels)) % 250
    images = np.broadcast_to(shades[:, None, None, None], (len(labels), *shape)).astype(np.uint8)
    return ImageSet(images, labels, tuple(names or (f"class {k}" for k in range(n_classes))))


def tick_labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts] + [text.get_text() for text in figure.texts]


def drawn(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png(figure))).convert("RGB"))


def history(**curves: list[float]) -> pd.DataFrame:
    """A history from keyword arguments named <split>_<name>."""
    rows = [
        {"step": step, "split": key.split("_", 1)[0], "name": key.split("_", 1)[1], "value": value}
        for key, values in curves.items()
        for step, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["step", "split", "name", "value"])


def record(row: str, role: str, value: float, std: float | None = 0.1, passport: str = "aaa") -> dict:
    metrics = {"fd_classifier": {"value": value, "std": std, "per_seed": None}}
    return {"row": row, "role": role, "metrics": metrics, "passport": {"n_real": passport}, "passport_id": passport}


def verdict(family: str, word: str, difference: float | None, interval: list[float] | None) -> dict:
    return {"family": family, "verdict": word, "difference": difference, "interval": interval, "confidence": 0.9}


def test_grid_has_one_labelled_row_a_class_and_its_images_in_order():
    images = labelled(3, 4)
    (axis,) = sample_grid(images, columns=4).axes
    mosaic = np.asarray(axis.images[0].get_array())
    assert tick_labels(axis) == ["class 0", "class 1", "class 2"]
    assert axis.images[0].get_interpolation() == "nearest"
    # Image number k is all of shade k, classes take turns, and each tile spans 6 pixels and a gap of 1.
    centres = mosaic[3::7, 3::7, 0]
    assert centres.tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_grid_pixels_are_whole_squares_of_screen_pixels():
    checkers = (np.indices((6, 6)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = drawn(sample_grid(ImageSet(np.broadcast_to(checkers, (4, 1, 6, 6)).copy()), columns=2))
    assert set(np.unique(pixels)) <= {0, 255}
    scale = pixels.shape[1] // 14
    assert pixels.shape[:2] == (14 * scale, 14 * scale)
    assert (pixels[: 6 * scale, : 6 * scale, 0] == np.kron(checkers, np.ones((scale, scale)))).all()


def test_grid_leaves_the_rest_of_a_short_class_blank():
    images = labelled(2, 3).take([0, 1, 3])  # two of class 1, one of class 0
    (axis,) = sample_grid(images, columns=3).axes
    mosaic = np.asarray(axis.images[0].get_array())
    assert (mosaic[:7, 7:] == 255).all()
    assert mosaic[10, 10, 0] == 3


def test_grid_of_unlabelled_images_fills_row_by_row():
    images = labelled(1, 7)
    (axis,) = sample_grid(ImageSet(images.images), columns=3).axes
    mosaic = np.asarray(axis.images[0].get_array())
    assert tick_labels(axis) == []
    assert mosaic[3::7, 3::7, 0].ravel().tolist() == [0, 1, 2, 3, 4, 5, 6, 255, 255]


@pytest.mark.parametrize(("rows", "shown"), [(None, 20), (5, 5)])
def test_grid_says_how_many_classes_it_shows(rows, shown):
    (axis,) = sample_grid(labelled(23, 2), columns=2, rows=rows).axes
    assert len(tick_labels(axis)) == shown
    assert axis.get_title(loc="left") == f"first {shown} of 23 classes"


def test_grid_of_few_classes_says_nothing_of_a_rest():
    (axis,) = sample_grid(labelled(3, 2), columns=2).axes
    assert axis.get_title(loc="left") == ""


def test_grid_keeps_colours_and_averages_large_images_down():
    images = np.zeros((1, 3, 200, 200), np.uint8)
    images[:, 0, :, ::2] = 200
    images[:, 2] = 50
    (axis,) = sample_grid(ImageSet(images), columns=1).axes
    mosaic = np.asarray(axis.images[0].get_array())
    tile = mosaic[(mosaic != 255).any(axis=2)]
    assert len(tile) == 66 * 66
    # Blocks of 3 columns hold one or two lit ones.
    assert set(map(tuple, tile.tolist())) == {(67, 0, 50), (133, 0, 50)}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grid_takes_any_number_of_channels(channels):
    assert drawn(sample_grid(labelled(2, 2, shape=(channels, 5, 9)), columns=2)).ndim == 3


def test_grid_takes_class_names_as_they_are():
    names = ["$\\broken", "<script>", "two\nlines", "a name far too long to stand beside images"]
    figure = sample_grid(labelled(4, 2, names=names), columns=2)
    assert tick_labels(figure.axes[0]) == ["$\\broken", "<script>", "two lines", "a name far too lo…"]
    assert drawn(figure).std() > 0


def test_grid_draws_class_names_that_the_font_lacks_without_a_warning():
    names = ["猫", "🐈", "%2e%2e", "x" * 255]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = sample_grid(labelled(4, 2, names=names), columns=2)
        figure.savefig(BytesIO())
    assert [str(warning.message) for warning in caught] == []
    assert tick_labels(figure.axes[0])[:3] == names[:3]
    assert drawn(figure).std() > 0


def test_grid_of_nothing_says_so():
    assert texts(sample_grid(ImageSet(np.zeros((0, 1, 4, 4), np.uint8)))) == ["no images"]


def test_curves_come_loss_first_and_learning_rate_last():
    figure = training_curves(history(train_learning_rate=[1, 2], train_kl=[1, 2], train_loss=[1, 2], train_bits=[1, 2]))
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["loss", "kl", "bits", "learning rate"]


def test_curves_hold_the_points_of_both_splits():
    (axis,) = training_curves(history(train_loss=[3.0, 2.0, 1.0], validation_loss=[4.0, 3.5])).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["train"].get_ydata().tolist() == [3.0, 2.0, 1.0]
    assert lines["validation"].get_xdata().tolist() == [0, 1]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["train", "validation"]


def test_looks_at_samples_have_panels_that_say_what_is_usual():
    (axis,) = training_curves(history(samples_relative_kinds=[0.9, 1.0])).axes
    assert axis.lines[0].get_ydata().tolist() == [0.9, 1.0]
    assert axis.get_title(loc="left") == "samples: kinds (real: 1)"


def test_many_points_are_drawn_pale_under_a_steadier_line():
    noise = np.random.default_rng(0).normal(size=1000)
    (axis,) = training_curves(history(train_loss=noise.tolist())).axes
    raw, smooth = axis.lines
    np.testing.assert_array_equal(raw.get_ydata(), noise)
    assert raw.get_alpha() < 1
    # The mean of 20 independent values has 1/√20 of their standard deviation.
    assert np.std(smooth.get_ydata()) == pytest.approx(1 / np.sqrt(20), rel=0.25)


def test_an_early_spike_does_not_flatten_a_long_curve():
    (axis,) = training_curves(history(train_loss=[1e6, *np.linspace(2, 1, 999)])).axes
    assert axis.get_ylim()[1] < 3


def test_curves_leave_out_what_is_not_finite():
    (axis,) = training_curves(history(train_loss=[1.0, np.nan, np.inf, 2.0])).axes
    assert axis.lines[0].get_xdata().tolist() == [0, 3]


def test_curve_without_a_finite_value_says_so():
    figure = training_curves(history(train_loss=[np.nan, np.nan]))
    assert texts(figure) == ["no finite value"]
    assert drawn(figure).std() > 0


def test_single_point_is_visible():
    figure = training_curves(history(train_bic=[-5.0]))
    (axis,) = figure.axes
    assert axis.lines[0].get_marker() == "o"
    assert axis.get_xlabel() == "components"
    assert drawn(figure).std() > 0


def test_empty_history_says_so():
    assert texts(training_curves(history())) == ["no training curve was recorded"]


def test_metric_chart_shows_comparable_families_between_their_references():
    records = [
        record("floor", "floor", 1.0),
        record("vae", "family", 4.0, 0.5),
        record("gmm", "family", 9.0, None),
        record("other", "family", 2.0, 0.1, "bbb"),
        record("noise", "noise", 500.0),
    ]
    figure = metric_chart(leaderboard(records), "fd_classifier")
    (axis,) = figure.axes
    assert tick_labels(axis) == ["vae", "gmm"]
    assert [float(bar.lines[0].get_xdata()[0]) for bar in axis.containers] == [4.0, 9.0]
    (segment,) = axis.containers[0].lines[2][0].get_segments()
    assert segment[:, 0].tolist() == [3.5, 4.5]
    assert [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2] == [1.0, 500.0]
    assert texts(figure) == ["real vs real (floor)", "pure noise", "4.00 ± 0.50", "9.00"]
    assert axis.get_xscale() == "log"
    assert "lower is better" in axis.get_xlabel()


def test_metric_chart_is_linear_where_logarithms_say_nothing():
    near = leaderboard([record("floor", "floor", 1.0), record("vae", "family", 4.0)])
    negative = leaderboard([record("floor", "floor", -0.1), record("vae", "family", 400.0)])
    assert metric_chart(near, "fd_classifier").axes[0].get_xscale() == "linear"
    assert metric_chart(negative, "fd_classifier").axes[0].get_xscale() == "linear"


def test_error_bar_wider_than_its_value_stays_on_a_logarithmic_axis():
    figure = metric_chart(
        leaderboard([record("floor", "floor", 0.5, 0.9), record("vae", "family", 90.0, 95.0)]), "fd_classifier"
    )
    (segment,) = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert segment[0, 0] > 0
    assert drawn(figure).std() > 0


@pytest.mark.parametrize("metric", ["fd_classifier", "recall"])
def test_metric_chart_without_families_says_so(metric):
    assert "no family has" in texts(metric_chart(leaderboard([record("floor", "floor", 1.0)]), metric))[0]


def test_forest_plot_shows_differences_intervals_and_verdicts():
    verdicts = [
        verdict("vae", "helps", 0.02, [0.01, 0.03]),
        verdict("gmm", "hurts", -0.02, [-0.03, -0.01]),
        verdict("ae", "not applicable", None, None),
    ]
    figure = augmentation_figure(verdicts)
    (axis,) = figure.axes
    zero, *rest = (line.get_xdata() for line in axis.lines)
    assert list(zero) == [0, 0]
    np.testing.assert_allclose(np.concatenate(rest), [1, 3, 2, -3, -1, -2])
    assert tick_labels(axis) == ["vae", "gmm", "ae"]
    assert texts(figure) == ["helps", "hurts", "not applicable"]
    assert "90 % interval" in axis.get_xlabel()
    assert axis.lines[1].get_color() != axis.lines[3].get_color()


def test_forest_plot_without_verdicts_says_so():
    assert texts(augmentation_figure([])) == ["no augmentation verdict"]


def panel(down: int, across: int, **words) -> Panel:
    """A table of pictures, each of one shade of its own."""
    shades = np.arange(down * across).reshape(down, across, 1, 1, 1)
    images = np.broadcast_to(shades, (down, across, 1, 6, 6)).astype(np.uint8)
    names = {"rows": tuple(f"r{k}" for k in range(down)), "columns": tuple(f"c{k}" for k in range(across))}
    return Panel("figure", "A title", "caption", images=images, **(names | words))


def test_table_has_every_picture_in_its_place_under_its_name():
    (axis,) = picture_table([panel(2, 3)]).axes
    mosaic = np.asarray(axis.images[0].get_array())
    assert mosaic[3::7, 3::7, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    places = {text.get_text(): text.get_position() for text in axis.texts}
    assert set(places) == {"r0", "r1", "c0", "c1", "c2"}
    assert [places[f"c{k}"][0] for k in range(3)] == [3, 10, 17] and [places[f"r{k}"][1] for k in range(2)] == [3, 10]


def test_table_leaves_gaps_where_it_is_told_to():
    (axis,) = picture_table([panel(2, 3, apart=(1,), rows_apart=(1,), footer=("a", "b", "c"))]).axes
    mosaic = np.asarray(axis.images[0].get_array())
    # Three gaps of one pixel between columns, two between rows.
    assert mosaic.shape == (16, 24, 3)
    assert mosaic[[3, 12]][:, [3, 13, 20], 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [text.get_text() for text in axis.texts[-3:]] == ["a", "b", "c"]


def test_tables_stand_one_below_the_other_with_their_titles():
    figure = picture_table([panel(1, 2), panel(2, 2)])
    first, second = figure.axes
    assert second.get_position().y1 < first.get_position().y0
    assert "A title" in texts(figure) and "A title" not in texts(picture_table([panel(1, 2)]))


@pytest.mark.parametrize(
    "names", [("$\\broken", "<b>"), ("two\nlines", "a name far too long to stand beside"), ("", "")]
)
def test_table_letters_stay_inside_the_figure(names):
    figure = picture_table([panel(2, 2, rows=names)])
    figure.draw_without_rendering()
    for text in filter(Text.get_text, figure.axes[0].texts):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_table_of_nothing_says_so():
    assert texts(picture_table([])) == ["nothing to show"]


def test_frames_of_a_film_hold_what_belongs_together_one_above_the_other():
    shades = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)  # table, column, row
    tables = [
        Panel(
            "film",
            "",
            "",
            ("", ""),
            ("a", "b", "c"),
            np.full((2, 3, 1, 4, 4), 0, np.uint8) + shade.T[..., None, None, None],
        )
        for shade in shades
    ]
    frames = film_frames(tables)
    assert frames.dtype == np.uint8 and frames.shape[0] == 3 and frames.shape[3] == 3
    for column, frame in enumerate(frames):
        _, height, width, _ = frames.shape
        seen = [[int(frame[height * down // 4, width * across // 4, 0]) for across in (1, 3)] for down in (1, 3)]
        assert seen == shades[:, column].tolist()


def test_a_drawing_has_a_row_for_each_class_that_was_asked_for():
    images = np.zeros((30, 1, 8, 8), np.uint8)
    some = drawing_grid(ImageSet(images, np.repeat([1, 3], [25, 5]), ("a", "b", "c", "d")))
    assert [label.get_text() for label in some.axes[0].get_yticklabels()] == ["b", "d"]
    assert some.axes[0].images[0].get_array().shape[:2] == (2 * 9, 25 * 9)
    for labels, names in ((None, ()), (np.ones(30, np.int64), ("a", "b"))):
        whole = drawing_grid(ImageSet(images, labels, names)).axes[0]
        assert whole.images[0].get_array().shape[:2] == (3 * 9, 10 * 9) and not len(whole.get_yticks())


def test_latent_scatter_draws_each_class_in_each_map():
    table = pd.DataFrame({"label": [0, 1, 1, 11], "pca_1": [1.0, 2, 3, 4], "pca_2": 0.0, "tsne_1": 5.0, "tsne_2": 6.0})
    figure = latent_scatter(table, [f"$class {k}" for k in range(12)])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["principal components", "t-SNE"]
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [1, 2, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$class 0", "$class 1", "$class 11"]
    one, other = figure.axes[0].collections[1:]
    assert (one.get_facecolor() == other.get_facecolor()).all()
    assert len(one.get_paths()[0]) != len(other.get_paths()[0])
    assert drawn(figure).std() > 0


def test_latent_scatter_of_images_without_classes_has_no_legend():
    table = pd.DataFrame({"label": [-1, -1], "pca_1": 0.0, "pca_2": 0.0, "tsne_1": 5.0, "tsne_2": 6.0})
    assert latent_scatter(table, []).legends == []


def test_same_figure_same_bytes():
    assert png(training_curves(history(train_loss=[2.0, 1.0]))) == png(training_curves(history(train_loss=[2.0, 1.0])))


def test_figures_never_touch_pyplot(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # any import of it now fails
    assert drawn(training_curves(history(train_loss=[2.0, 1.0]))).std() > 0


def test_responses_have_one_panel_a_harm_with_all_its_levels():
    curves = {"noise": [(0.0, 1.0), (8.0, 30.0), (16.0, 900.0)], "blur": [(0.0, 0.0), (1.0, 5.0)]}
    noise, blur = response_figure(curves, "FD").axes
    assert (noise.get_title(), blur.get_title()) == ("Noise", "Blur")
    assert noise.lines[0].get_ydata().tolist() == [1, 30, 900] and noise.get_yscale() == "log"
    # A logarithm of 0 would leave the first point out.
    assert blur.lines[0].get_xdata().tolist() == [0, 1] and blur.get_yscale() == "linear"


def test_pareto_figure_draws_a_line_along_what_nothing_beats_in_both():
    rows = {"gmm": (9.0, 1.0), "vae": (4.0, 10.0), "flow": (6.0, 20.0), "gan": (2.0, 50.0)}
    records = [record("floor", "floor", 1.0), record("other", "family", 0.5, None, "bbb")]
    records += [record(name, "family", fd) for name, (fd, _) in rows.items()]
    for each in records:
        if each["row"] in rows:
            each["metrics"]["train_seconds"] = {"value": rows[each["row"]][1], "std": None}
    figure = pareto_figure(leaderboard(records), "fd_classifier")
    (axis,) = figure.axes
    assert sorted(text.get_text() for text in axis.texts) == ["flow", "gan", "gmm", "vae"]
    assert axis.lines[0].get_xdata().tolist() == [1, 10, 50] and axis.lines[0].get_ydata().tolist() == [9, 4, 2]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert drawn(figure).std() > 0


def test_pareto_figure_of_one_family_says_so():
    few = leaderboard([record("floor", "floor", 1.0), record("vae", "family", 4.0)])
    assert "fewer than two families" in texts(pareto_figure(few, "fd_classifier"))[0]


def test_radar_goes_from_the_worst_to_the_best_and_names_what_is_missing():
    rows = {"gmm": (0.9, 0.1, 4.0, 1.0), "vae": (0.5, 0.6, None, 10.0), "gan": (0.7, 0.2, 2.0, 100.0)}
    records = [record("floor", "floor", 1.0), *(record(name, "family", 2.0) for name in rows)]
    for each in records[1:]:
        keys = ("precision", "coverage", "bits_per_dim", "train_seconds")
        entries = zip(keys, rows[each["row"]], strict=True)
        each["metrics"] |= {key: {"value": value, "std": None} for key, value in entries if value is not None}
    figure = radar_figure(leaderboard(records))
    gmm, vae, gan = ({axis.get_title(): axis for axis in figure.axes}[name] for name in rows)
    np.testing.assert_allclose(gmm.lines[0].get_ydata(), [1, 0, 0, 1, 0, 1])
    np.testing.assert_allclose(vae.lines[0].get_ydata(), [0, 1, 0, 0.5, 0, 0])
    np.testing.assert_allclose(gan.lines[0].get_ydata(), [0.5, 0.2, 1, 0, 0, 0.5])
    assert "(likelihood)" in [label.get_text() for label in vae.get_xticklabels()]
    assert drawn(figure).std() > 0

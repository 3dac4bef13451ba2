"""Figures of samples, curves, metrics and verdicts, drawn without pyplot so that no global state is touched."""

import math
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.exploration.panels import Panel
from simulacra.metrics import COSTS, METRICS, format_value
from simulacra.metrics.corruptions import CORRUPTIONS
from simulacra.report.leaderboard import ROW_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

# Okabe and Ito's blue and vermilion stay apart for colour-blind readers; everything else is ink or grey.
ACCENT, CONTRAST = "#0072b2", "#d55e00"
INK, MUTED, RULE = "#222222", "#6b6b6b", "#dddddd"
VERDICT_COLOURS = {"helps": ACCENT, "hurts": CONTRAST}
DPI = 200
CHART_WIDTH = 4.6

MOST_CLASSES = 20
LARGEST_TILE = 96
GRID_PIXELS = 900
GRID_DPI = 100
FILM_PIXELS = 480

MANY_POINTS = 200
SMOOTHED_SHARE = 0.02
PANELS_PER_ROW = 4
WIDEST_LINEAR_SPAN = 30
STEP_TITLES = {"bic": "components", "aic": "components"}
CURVE_TITLES = {
    "near_duplicates": "samples: share of near copies",
    "relative_coverage": "samples: coverage (real: 1)",
    "relative_kinds": "samples: kinds (real: 1)",
}

# Ten hues that stay apart, most of them Okabe and Ito's; more classes than ten take the next shape.
CLASS_COLOURS: tuple[str, ...] = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
CLASS_COLOURS += ("#56b4e9", "#6a3d9a", "#8c5a2b", "#8a9a00", "#555555")
CLASS_SHAPES = ("o", "^", "s", "D")
MAP_TITLES = {"pca": "principal components", "tsne": "t-SNE"}
LONGEST_LEGEND = 20
SPOKES: dict[str, tuple[str, ...]] = {
    "fidelity": ("precision",),
    "diversity": ("coverage",),
    "likelihood": ("bits_per_dim", "elbo_bits_per_dim", "bits_per_dim_binary", "elbo_bits_per_dim_binary"),
    "training": ("train_seconds",),
    "sampling": ("sample_ms",),
}
"""Spokes of the radar: title to the metrics of which the first that a family has counts."""
TABLE_LETTERS = (10, 24)
"""Smallest and largest height of a table's letters, in pixels."""


def png(figure: "Figure") -> bytes:
    """Return the figure as a PNG file's bytes, the same for the same figure."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def sample_grid(image_set: ImageSet, *, columns: int = 10, rows: int | None = None) -> "Figure":
    """Draw images side by side, one row a class where they are labelled.

    Grey or RGB by the number of channels (one or two: the first; three or more: the first three). Every pixel becomes a
    square of whole screen pixels; images larger than 96 pixels are averaged down by a whole factor. A class with fewer
    images than columns leaves the rest of its row blank.

    Args:
        image_set: images (n, channels, height, width); none at all gives a figure that says so.
        columns: images a row.
        rows: most rows to draw; None draws 20 classes at most, or 10 rows of unlabelled images.

    Returns:
        A figure with one axis; the class names label its vertical axis.
    """
    if not len(image_set):
        return _message("no images")
    names, picks = _grid_rows(image_set, columns, rows)
    pixels = _mosaic(image_set, picks, columns)
    scale = max(1, round(GRID_PIXELS / pixels.shape[1]))
    height, width = pixels.shape[0] * scale, pixels.shape[1] * scale
    label_size = max(12.0, 0.36 * height / len(picks)) if names else 0.0
    left = math.ceil(label_size * (0.5 + 0.65 * max(map(len, names), default=0)))
    top = 40 if image_set.n_classes > len(names) > 0 else 0
    figure = _figure((left + width) / GRID_DPI, (top + height) / GRID_DPI, dpi=GRID_DPI, layout=None)
    axis = figure.add_axes((left / (left + width), 0, width / (left + width), height / (top + height)))
    axis.imshow(pixels, interpolation="nearest", aspect="auto")
    axis.spines[:].set_visible(False)
    centres = (np.arange(len(names)) + 0.5) * pixels.shape[0] / len(picks) - 0.5
    points = label_size * 72 / GRID_DPI
    axis.set_yticks(centres, names, fontsize=points, color=INK, parse_math=False)
    axis.set_xticks([])
    axis.tick_params(length=0, pad=0.3 * points)
    if top:
        axis.set_title(f"first {len(names)} of {image_set.n_classes} classes", loc="left", fontsize=14, color=MUTED)
    return figure


def drawing_grid(drawn: ImageSet) -> "Figure":
    """Draw what somebody asked for: by class, but for classes that were not asked for, or one after the other."""
    present = np.unique([] if drawn.labels is None else drawn.labels)
    if drawn.labels is None or len(present) < 2:
        return sample_grid(ImageSet(drawn.images), rows=MOST_CLASSES)
    names = tuple(drawn.class_names[label] for label in present)
    columns = int(np.clip(np.bincount(drawn.labels).max(), 1, 2 * MOST_CLASSES))
    return sample_grid(ImageSet(drawn.images, np.searchsorted(present, drawn.labels), names), columns=columns)


def training_curves(history: "DataFrame") -> "Figure":
    """Draw one panel a curve, loss first and learning rate last, with train and validation in the same panel.

    A curve of more than 200 points is drawn pale under its running mean, and its panel spans the 0.5th to the 99.5th
    percentile, so that a few early spikes do not flatten the rest. Values that are not finite are left out.

    Args:
        history: long format, columns step, split, name, value; may be empty.

    Returns:
        A figure with one visible axis a name; a sentence instead where nothing was recorded.
    """
    names = sorted(dict.fromkeys(history["name"]), key=_panel_order) if len(history) else []
    if not names:
        return _message("no training curve was recorded")
    across = min(len(names), PANELS_PER_ROW)
    down = math.ceil(len(names) / across)
    figure = _figure(max(2.7 * across, 3.3), 2.2 * down)
    for place, name in enumerate(names, start=1):
        axis = figure.add_subplot(down, across, place)
        _quiet(axis)
        _curve_panel(axis, name, history[history["name"] == name])
    return figure


def response_figure(responses: Mapping[str, Sequence[tuple[float, float]]], title: str) -> "Figure":
    """Draw what a metric says of real images that are made worse by degrees, one panel a way of harming them.

    Args:
        responses: what `simulacra.metrics.corruptions.responses` returns.
        title: of the metric.
    """
    figure = _figure(2.7 * len(responses), 2.3)
    for place, (name, curve) in enumerate(responses.items(), start=1):
        axis = figure.add_subplot(1, len(responses), place)
        _quiet(axis)
        levels, values = zip(*curve, strict=True)
        axis.plot(levels, values, color=ACCENT, marker="o", markersize=3.5, linewidth=1.4)
        axis.set_title(CORRUPTIONS[name].title, fontsize=8.5, color=INK)
        axis.set_xlabel(CORRUPTIONS[name].unit)
        if min(values) > 0:
            axis.set_yscale("log")
        if place == 1:
            axis.set_ylabel(title)
    return figure


def trend_figure(
    points: Mapping[str, Sequence[tuple[str, float, float]]], title: str, *, logarithmic: bool = False
) -> "Figure":
    """Draw how numbers moved: one line a name, its points (when, value, spread) in order, evenly spaced.

    Args:
        points: by name; an empty line is left out.
        title: of the vertical axis.
        logarithmic: whether that axis is.
    """
    moments = sorted({moment for line in points.values() for moment, _, _ in line})
    figure = _figure(max(CHART_WIDTH, 0.45 * len(moments)), 2.6)
    axis = figure.add_subplot()
    _quiet(axis)
    for colour, (name, line) in zip(CLASS_COLOURS, points.items(), strict=False):
        if line:
            places, values, spreads = zip(*((moments.index(when), *rest) for when, *rest in line), strict=True)
            axis.errorbar(places, values, yerr=spreads, fmt="o-", color=colour, markersize=4, capsize=3, label=name)
    if logarithmic:
        axis.set_yscale("log")
    step = max(1, len(moments) // 8)
    axis.set_xticks(range(0, len(moments), step), moments[::step], rotation=30, ha="right", fontsize=7)
    axis.set_ylabel(title)
    axis.legend(fontsize=8, frameon=False)
    return figure


def metric_chart(leaderboard: "DataFrame", metric: str) -> "Figure":
    """Draw one dot with its error bar a comparable family, between the real-vs-real floor and pure noise.

    Args:
        leaderboard: the table that `simulacra.report.leaderboard.leaderboard` returns.
        metric: a key of `METRICS`.

    Returns:
        A figure with one axis, logarithmic where all values are positive and span more than a factor of 30; families
        without the metric, or with another passport than the floor's, are left out.
    """
    measured = leaderboard[np.isfinite(leaderboard[metric])] if metric in leaderboard else leaderboard.iloc[:0]
    families = measured[(measured["role"] == "family") & measured["comparable"]]
    if families.empty:
        return _message(f"no family has {METRICS[metric].title}")
    figure = _figure(CHART_WIDTH, 0.36 * len(families) + 1.3)
    axis = figure.add_subplot()
    _quiet(axis, grid="x")
    shown = measured[measured["comparable"]][metric]
    if shown.min() > 0 and shown.max() / shown.min() > WIDEST_LINEAR_SPAN:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:,.10g}")
    for role in ("floor", "noise"):
        for _, row in measured[(measured["role"] == role) & measured["comparable"]].iterrows():
            _reference(axis, role, row[metric], _spread(row, metric))
    for place, (_, row) in enumerate(families.iterrows()):
        value, spread = row[metric], _spread(row, metric)
        axis.errorbar(value, place, xerr=_bar(axis, value, spread), fmt="o", color=ACCENT, markersize=6, capsize=3)
        _margin_note(axis, place, format_value(metric, value, row[f"{metric}_std"]))
    _name_rows(axis, list(families["row"]))
    heading = METRICS[metric]
    axis.set_xlabel(f"{heading.title}: {heading.unit} ({heading.better} is better)", fontsize=9, color=MUTED)
    return figure


def pareto_figure(leaderboard: "DataFrame", metric: str, cost: str = "train_seconds") -> "Figure":
    """Draw what quality costs: one dot a comparable family, and a line along those that no other beats in both.

    Args:
        leaderboard: the table that `simulacra.report.leaderboard.leaderboard` returns.
        metric: a key of `METRICS` of which less is better.
        cost: another one.

    Returns:
        A figure with one axis, its scales logarithmic where all values are positive; a sentence where fewer than
        two families have both numbers.
    """
    known = [key for key in (metric, cost) if key in leaderboard]
    families = leaderboard[(leaderboard["role"] == "family") & leaderboard["comparable"]].dropna(subset=known)
    if len(known) < 2 or len(families) < 2:
        return _message(f"fewer than two families have {METRICS[metric].title} and {METRICS[cost].title}")
    figure = _figure(CHART_WIDTH, 3.2)
    axis = figure.add_subplot()
    _quiet(axis, grid="both")
    best = pareto_rows(families[[cost, metric]].to_numpy(np.float64))
    front = families.iloc[best].sort_values(cost)
    axis.step(front[cost], front[metric], where="post", color=ACCENT, linewidth=1.2, alpha=0.6)
    for place, (_, row) in enumerate(families.iterrows()):
        colour = ACCENT if place in best else MUTED
        axis.plot(row[cost], row[metric], "o", color=colour, markersize=6)
        axis.annotate(row["row"], (row[cost], row[metric]), (5, 4), textcoords="offset points", fontsize=8, color=INK)
    for key, scale, label in ((cost, axis.set_xscale, axis.set_xlabel), (metric, axis.set_yscale, axis.set_ylabel)):
        if families[key].min() > 0:
            scale("log")
        label(f"{METRICS[key].title}: {METRICS[key].unit}", fontsize=9, color=MUTED)
    axis.margins(x=0.18, y=0.12)
    return figure


def radar_figure(leaderboard: "DataFrame") -> "Figure":
    """Draw one small radar a comparable family: fidelity, diversity, likelihood, and what training and sampling cost.

    Each spoke goes from the worst of the families, in the middle, to the best, costs on a logarithmic scale; a family
    without the number is in the middle, and the spoke's name is in brackets there.

    Args:
        leaderboard: the table that `simulacra.report.leaderboard.leaderboard` returns.
    """
    families = leaderboard[(leaderboard["role"] == "family") & leaderboard["comparable"]]
    if len(families) < 2:
        return _message("fewer than two families can be compared")
    spokes = {title: _goodness(families, keys) for title, keys in SPOKES.items()}
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    across = min(len(families), PANELS_PER_ROW)
    figure = _figure(2.2 * across, 2.2 * math.ceil(len(families) / across))
    for place, name in enumerate(families["row"]):
        axis = figure.add_subplot(math.ceil(len(families) / across), across, place + 1, projection="polar")
        values = np.array([good[place] for good in spokes.values()])
        length = np.where(np.isfinite(values), values, 0.0)
        axis.fill(np.append(angles, 0), np.append(length, length[0]), color=ACCENT, alpha=0.25)
        axis.plot(np.append(angles, 0), np.append(length, length[0]), color=ACCENT, linewidth=1.2)
        axis.set_ylim(0, 1)
        axis.set_yticks([])
        labels = [title if math.isfinite(value) else f"({title})" for title, value in zip(spokes, values, strict=True)]
        axis.set_xticks(angles, labels, fontsize=6.5, color=MUTED)
        axis.grid(color=RULE, linewidth=0.6)
        axis.spines["polar"].set_color(RULE)
        axis.set_title(_short(name), fontsize=8.5, color=INK)
    return figure


def _goodness(families: "DataFrame", keys: Sequence[str]) -> NDArray[np.float64]:
    """Return how good each family is by the first number that it has, from 0, the worst, to 1; NaN without any."""
    values = np.full(len(families), np.nan)
    for key in reversed([key for key in keys if key in families]):
        given = families[key].to_numpy(np.float64)
        values = np.where(np.isfinite(given), given, values)
    if keys[0] in COSTS:  # they differ by factors rather than by amounts
        values = np.log(np.maximum(values, 1e-6))
    if METRICS[keys[0]].better == "lower":
        values = -values
    if not np.isfinite(values).any():
        return values
    span = np.nanmax(values) - np.nanmin(values)
    good: NDArray[np.float64] = (
        (values - np.nanmin(values)) / span if span else np.where(np.isfinite(values), 1.0, np.nan)
    )
    return good


def pareto_rows(values: NDArray[np.float64]) -> list[int]:
    """Return the rows of (n, k) than which no other is less in one column and no more in any.

    Example:
        >>> pareto_rows(np.array([[1.0, 9.0], [2.0, 3.0], [3.0, 4.0], [9.0, 1.0]]))
        [0, 1, 3]
    """
    return [
        place
        for place, row in enumerate(values)
        if not ((values <= row).all(axis=1) & (values < row).any(axis=1)).any()
    ]


def augmentation_figure(verdicts: list[dict[str, Any]]) -> "Figure":
    """Draw the forest plot of what synthetic images do to the classifier's accuracy.

    Args:
        verdicts: augmentation verdict records; one without a difference gets its verdict in words only.

    Returns:
        A figure with one axis, in percentage points of accuracy, zero marked.
    """
    if not verdicts:
        return _message("no augmentation verdict")
    figure = _figure(CHART_WIDTH, 0.36 * len(verdicts) + 1.0)
    axis = figure.add_subplot()
    _quiet(axis, grid="x")
    axis.axvline(0, color=INK, linewidth=1, zorder=1)
    for place, record in enumerate(verdicts):
        colour = VERDICT_COLOURS.get(record["verdict"], MUTED)
        if record.get("difference") is not None:
            middle = 100 * record["difference"]
            low, high = (100 * end for end in record.get("interval") or (record["difference"],) * 2)
            axis.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axis.plot([middle], [place], "o", color=colour, markersize=6)
        _margin_note(axis, place, record["verdict"], colour)
    _name_rows(axis, [record["family"] for record in verdicts])
    confidence = next((f", {100 * v['confidence']:g} % interval" for v in verdicts if v.get("confidence")), "")
    label = f"change in accuracy, percentage points{confidence}"
    axis.set_xlabel(label, fontsize=9, color=MUTED)
    axis.margins(x=0.1)
    return figure


def human_figure(record: dict[str, Any]) -> "Figure":
    """Draw what people say: how often each family is taken for real, and how strong it is in comparisons.

    Args:
        record: what `simulacra.human.analysis.analyse` returned.

    Returns:
        A figure with one axis a question that was asked, intervals of 95 %.
    """
    rates, preference = record["families"], (record["preference"] or {}).get("families") or {}
    panels = [names for names in (rates, preference) if names]
    if not panels:
        return _message("no family was judged")
    figure = _figure(1.1 * CHART_WIDTH * len(panels), 0.36 * max(map(len, panels)) + 1.3)
    for place, entries in enumerate(panels, start=1):
        axis = figure.add_subplot(1, len(panels), place)
        _quiet(axis, grid="x")
        if entries is rates:
            _rates(axis, rates, record["real"])
        else:
            axis.axvline(0, color=INK, linewidth=1, zorder=1)
            _intervals(
                axis, {name: (entry["strength"], entry["interval"]) for name, entry in entries.items()}, "{:+.2f}"
            )
            axis.set_xlabel("log-odds of being preferred to the average family", fontsize=9, color=MUTED)
    return figure


def _rates(axis: "Axes", rates: dict[str, Any], real: dict[str, Any]) -> None:
    """Draw the shares that are taken for real, in percent, and for comparison that of real images."""
    ordered = dict(sorted(rates.items(), key=lambda entry: -entry[1]["value"]))
    shares = {name: (100 * rate["value"], [100 * end for end in rate["interval"]]) for name, rate in ordered.items()}
    if real["n"]:
        low, high = (100 * (1 - end) for end in real["interval"][::-1])
        axis.axvspan(low, high, color=MUTED, alpha=0.18, linewidth=0, zorder=0)
        _named_line(axis, 100 * (1 - real["value"]), "real images")
    _intervals(axis, shares, "{:.1f} %")
    axis.set_xlabel("taken for real by people, %", fontsize=9, color=MUTED)


def _intervals(axis: "Axes", shown: Mapping[str, tuple[float, Sequence[float]]], form: str) -> None:
    """Draw one dot with its interval a name."""
    for place, (value, (low, high)) in enumerate(shown.values()):
        axis.plot([low, high], [place, place], color=ACCENT, linewidth=2, solid_capstyle="butt")
        axis.plot([value], [place], "o", color=ACCENT, markersize=6)
        _margin_note(axis, place, form.format(value).replace("-", "−"))
    _name_rows(axis, list(shown))
    axis.margins(x=0.1)


def picture_table(panels: Sequence[Panel]) -> "Figure":
    """Draw tables of pictures one below the other, pixels as squares, with the names of their rows and columns.

    Args:
        panels: may differ in rows and columns; none at all gives a figure that says so. Titles are drawn where there
            are several.
    """
    if not panels:
        return _message("nothing to show")
    mosaics = [_table_pixels(panel) for panel in panels]
    scale = max(1, round(GRID_PIXELS / max(mosaic.pixels.shape[1] for mosaic in mosaics)))
    size = min(scale * _letter_size(panel, mosaic) for panel, mosaic in zip(panels, mosaics, strict=True))
    size = float(np.clip(size, *TABLE_LETTERS))
    longest = max((len(line) for panel in panels for row in panel.rows for line in _lines(row)), default=0)
    left = math.ceil(size * (0.8 + 0.65 * longest)) if longest else 0
    width = left + scale * max(mosaic.pixels.shape[1] for mosaic in mosaics)
    margins = [_table_margins(panel, size, titled=len(panels) > 1) for panel in panels]
    heights = [scale * mosaic.pixels.shape[0] for mosaic in mosaics]
    total = sum(heights) + sum(above + below for above, below in margins)
    figure = _figure(width / GRID_DPI, total / GRID_DPI, dpi=GRID_DPI, layout=None)
    top = 0.0
    for panel, mosaic, height, (above, below) in zip(panels, mosaics, heights, margins, strict=True):
        top += above
        across = scale * mosaic.pixels.shape[1]
        place = (left / width, 1 - (top + height) / total, across / width, height / total)
        _draw_table(figure.add_axes(place), panel, mosaic, size, scale, titled=len(panels) > 1)
        top += height + below
    return figure


def film_frames(panels: Sequence[Panel]) -> NDArray[np.uint8]:
    """Return the columns of tables of pictures one after the other, as RGB frames (columns, height, width, 3).

    Each frame has a row a table, so that what belongs together is one above the other.
    """
    n_rows, n_columns = panels[0].images.shape[:2]
    picks = [np.arange(n_rows) + place * n_rows for place in range(len(panels))]
    frames = [
        _mosaic(ImageSet(np.concatenate([panel.images[:, column] for panel in panels])), picks, n_rows)
        for column in range(n_columns)
    ]
    scale = max(1, round(FILM_PIXELS / frames[0].shape[1]))
    return np.stack(frames).repeat(scale, axis=1).repeat(scale, axis=2)


def latent_scatter(latent_map: "DataFrame", class_names: Sequence[str]) -> "Figure":
    """Draw the maps of a latent space side by side, a colour a class.

    Args:
        latent_map: columns label, and <map>_1 and <map>_2 for each of `MAP_TITLES`.
        class_names: empty where the images carry no classes.
    """
    figure = _figure(9.6, 4.4)
    for place, (key, title) in enumerate(MAP_TITLES.items(), start=1):
        axis = figure.add_subplot(1, len(MAP_TITLES), place)
        for label in sorted(set(latent_map["label"].tolist())):
            dots = latent_map[latent_map["label"] == label]
            name = _short(class_names[label]) if class_names else "image"
            colour, shape = class_look(label, CLASS_SHAPES)
            axis.scatter(dots[f"{key}_1"], dots[f"{key}_2"], s=9, c=colour, marker=shape, linewidths=0, label=name)
        axis.set_title(title, loc="left", fontsize=11, color=INK)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color(RULE)
        axis.set_aspect("equal", adjustable="datalim")
    handles, names = figure.axes[0].get_legend_handles_labels()
    if class_names:
        legend = figure.legend(
            handles[:LONGEST_LEGEND],
            names[:LONGEST_LEGEND],
            loc="outside right center",
            frameon=False,
            fontsize=9,
            markerscale=2,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def class_look(label: int, shapes: Sequence[str]) -> tuple[str, str]:
    """Return the colour of a class, and one of the shapes that tell classes of one colour apart."""
    turn = max(label, 0)
    return CLASS_COLOURS[turn % len(CLASS_COLOURS)], shapes[turn // len(CLASS_COLOURS) % len(shapes)]


def _figure(width: float, height: float, *, dpi: int = DPI, layout: Any = "constrained") -> "Figure":
    """Return an empty white figure, sizes in inches, that draws with Agg and needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Whoever saves the figure would print this for every class name that the font lacks; a box is drawn in its place.
    warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _message(sentence: str) -> "Figure":
    """Return a small figure that holds one sentence."""
    figure = _figure(4.0, 0.8)
    figure.text(0.5, 0.5, sentence, ha="center", va="center", color=MUTED, fontsize=10)
    return figure


def _quiet(axis: "Axes", *, grid: Any = "y") -> None:
    """Give the axis the house look: one pale grid, no box, small grey ticks."""
    axis.grid(axis=grid, color=RULE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(RULE)
    axis.tick_params(which="both", length=0, labelsize=8, labelcolor=MUTED)


def _grid_rows(image_set: ImageSet, columns: int, rows: int | None) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Return the row labels (none where there are no classes) and the image indices of every row."""
    if image_set.labels is None:
        n_rows = min(rows or 10, math.ceil(len(image_set) / columns))
        return [], [np.arange(row * columns, min((row + 1) * columns, len(image_set))) for row in range(n_rows)]
    n_rows = min(rows or MOST_CLASSES, image_set.n_classes)
    picks = [np.flatnonzero(image_set.labels == label)[:columns] for label in range(n_rows)]
    return [_short(name) for name in image_set.class_names[:n_rows]], picks


def _short(name: str, longest: int = 18) -> str:
    """Return the name on one line, cut where it would push the images aside."""
    line = " ".join(name.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _mosaic(image_set: ImageSet, picks: list[NDArray[np.int64]], columns: int) -> NDArray[np.uint8]:
    """Return one white RGB picture that holds the picked images, with a gap around each."""
    factor = math.ceil(max(image_set.shape[1:]) / LARGEST_TILE)
    height, width = (max(side // factor, 1) for side in image_set.shape[1:])
    gap = max(1, width // 14)
    down, across = height + gap, width + gap
    canvas = np.full((len(picks) * down, columns * across, 3), 255, np.uint8)
    for row, indices in enumerate(picks):
        for column, index in enumerate(indices):
            top, left = row * down + gap // 2, column * across + gap // 2
            canvas[top : top + height, left : left + width] = _tile(image_set.images[index], factor)
    return canvas


def _tile(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the image as (height, width, 1 or 3), averaged down by the whole factor."""
    colours = image[:3] if len(image) >= 3 else image[:1]
    channels, height, width = colours.shape
    down, across = max(height // factor, 1), max(width // factor, 1)
    cropped = colours[:, : down * factor, : across * factor]
    blocks = cropped.reshape(channels, down, cropped.shape[1] // down, across, cropped.shape[2] // across)
    return np.moveaxis(np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8), 0, -1)


class _Mosaic(NamedTuple):
    """Pictures of a table in one: its pixels, and where the middle of each row and column lies."""

    pixels: NDArray[np.uint8]
    rows: list[float]
    columns: list[float]


def _table_pixels(panel: Panel) -> _Mosaic:
    """Put the pictures of a table into one, with gaps around them and wider ones where the table wants them."""
    factor = math.ceil(max(panel.images.shape[-2:]) / LARGEST_TILE)
    height, width = (max(side // factor, 1) for side in panel.images.shape[-2:])
    gap = max(1, width // 14)
    tops = _starts(len(panel.rows), height + gap, panel.rows_apart, 2 * gap)
    lefts = _starts(len(panel.columns), width + gap, panel.apart, 3 * gap)
    canvas = np.full((tops[-1] + height + gap, lefts[-1] + width + gap, 3), 255, np.uint8)
    for top, pictures in zip(tops, panel.images, strict=True):
        for left, picture in zip(lefts, pictures, strict=True):
            place = np.s_[top + gap // 2 : top + gap // 2 + height, left + gap // 2 : left + gap // 2 + width]
            canvas[place] = _tile(picture, factor)
    return _Mosaic(canvas, _middles(tops, height + gap), _middles(lefts, width + gap))


def _starts(n: int, pitch: int, apart: Sequence[int], gap: int) -> list[int]:
    """Return where each of n rows or columns begins, one pitch after another and wider gaps before some."""
    return [place * pitch + gap * sum(each <= place for each in apart) for place in range(n)]


def _middles(starts: list[int], pitch: int) -> list[float]:
    """Return the middles of rows or columns, as matplotlib counts pixels."""
    return [start + pitch / 2 - 0.5 for start in starts]


def _letter_size(panel: Panel, mosaic: _Mosaic) -> float:
    """Return the height of letters with which no two labels of a table touch, in pixels of its pictures."""
    height, width, _ = mosaic.pixels.shape
    down, across = height / len(panel.rows), width / len(panel.columns)
    widest = max(map(len, (*panel.columns, *panel.footer)))
    most_lines = max(label.count("\n") + 1 for label in panel.rows)
    return float(min(down / (1.3 * most_lines), across / (0.62 * max(widest, 1))))


def _lines(label: str) -> list[str]:
    """Return the lines of a label, each cut where it would push the pictures aside."""
    return [_short(line) for line in label.split("\n")]


def _table_margins(panel: Panel, size: float, *, titled: bool) -> tuple[float, float]:
    """Return the room above and below a table's pictures, in pixels."""
    above = (2.4 * size if titled else 0.0) + (1.5 * size if any(panel.columns) else 0.0)
    return above, (1.5 * size if panel.footer else 0.0) + (0.8 * size if titled else 0.0)


def _draw_table(axis: "Axes", panel: Panel, mosaic: _Mosaic, size: float, scale: int, *, titled: bool) -> None:
    """Draw one table of pictures with its labels, which are so many pixels high."""
    points = size * 72 / GRID_DPI
    axis.imshow(mosaic.pixels, interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    style: dict[str, Any] = {"fontsize": points, "color": INK, "parse_math": False}
    bottom, unit = len(mosaic.pixels) - 0.5, size / scale
    for middle, label in zip(mosaic.rows, panel.rows, strict=True):
        axis.text(-0.5 - 0.4 * unit, middle, "\n".join(_lines(label)), ha="right", va="center", **style)
    for middle, label in zip(mosaic.columns, panel.columns, strict=True):
        axis.text(middle, -0.5 - 0.35 * unit, label, ha="center", va="baseline", **style)
    muted = style | {"color": MUTED, "fontsize": 0.85 * points}
    for middle, label in zip(mosaic.columns, panel.footer, strict=False):
        axis.text(middle, bottom + 0.35 * unit, label, ha="center", va="top", **muted)
    if titled:
        above = -0.5 - (1.9 if any(panel.columns) else 0.5) * unit
        axis.text(-0.5, above, panel.title, ha="left", va="baseline", **style | {"fontweight": "bold"})


def _panel_order(name: str) -> int:
    """Put the loss first and the learning rate last; the sort is stable for what lies between."""
    return {"loss": 0, "learning_rate": 2}.get(name, 1)


def _curve_panel(axis: "Axes", name: str, curves: "DataFrame") -> None:
    """Draw the curves of one name, a colour a split."""
    from matplotlib.ticker import MaxNLocator

    finite = curves[np.isfinite(curves["value"].astype(float))].sort_values("step", kind="stable")
    for split, colour, order in (("train", ACCENT, 2), ("validation", CONTRAST, 3), ("samples", ACCENT, 2)):
        curve = finite[finite["split"] == split].set_index("step")["value"].astype(float)
        if len(curve):
            _curve(axis, curve, split, colour, order)
    axis.set_title(CURVE_TITLES.get(name, name.replace("_", " ")), loc="left", fontsize=9, color=INK, parse_math=False)
    axis.yaxis.get_offset_text().set(size=8, color=MUTED)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_xlabel(STEP_TITLES.get(name, "step"), fontsize=8, color=MUTED)
    if finite.empty:
        axis.text(0.5, 0.5, "no finite value", transform=axis.transAxes, ha="center", color=MUTED, fontsize=8)
    elif len(finite) > MANY_POINTS:
        low, high = finite["value"].quantile([0.005, 0.995])
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)
    if finite["split"].nunique() > 1:
        axis.legend(frameon=False, fontsize=8, labelcolor=MUTED)


def _curve(axis: "Axes", curve: "Series[float]", label: str, colour: str, order: int) -> None:
    """Draw one curve: dots and line while the points are few, its running mean over a pale line when many."""
    if len(curve) > MANY_POINTS:
        axis.plot(curve.index, curve, color=colour, linewidth=0.5, alpha=0.25, zorder=order)
        window = max(3, round(SMOOTHED_SHARE * len(curve)))
        curve = curve.rolling(window, center=True, min_periods=1).mean()
    few = len(curve) <= MANY_POINTS // 5
    axis.plot(
        curve.index,
        curve,
        color=colour,
        linewidth=1.4,
        marker="o" if few else "",
        markersize=3,
        label=label,
        zorder=order,
    )


def _spread(row: "Series[Any]", metric: str) -> float:
    """Return the row's standard deviation of the metric, 0 where none was measured."""
    spread = row[f"{metric}_std"]
    return float(spread) if np.isfinite(spread) else 0.0


def _bar(axis: "Axes", value: float, spread: float) -> list[list[float]]:
    """Return the error bar's two arms; on a logarithmic axis the lower one stops short of zero."""
    lower = min(spread, 0.9 * value) if axis.get_xscale() == "log" else spread
    return [[lower], [spread]]


def _reference(axis: "Axes", role: str, value: float, spread: float) -> None:
    """Shade one standard deviation around a reference and name it above the axis."""
    (below,), (above,) = _bar(axis, value, spread)
    axis.axvspan(value - below, value + above, color=MUTED, alpha=0.18, linewidth=0, zorder=0)
    _named_line(axis, value, ROW_TITLES[role])


def _named_line(axis: "Axes", value: float, name: str) -> None:
    """Draw a dashed line to compare with, its name above the axis."""
    axis.axvline(value, color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    place = (value, 1.0)
    axis.annotate(
        name,
        place,
        xycoords=axis.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=MUTED,
    )


def _margin_note(axis: "Axes", place: float, text: str, colour: str = INK) -> None:
    """Write a row's number or verdict in the right margin, where no line crosses it."""
    axis.text(1.03, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=9, color=colour)


def _name_rows(axis: "Axes", names: list[str]) -> None:
    """Name the rows from the top down."""
    axis.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=9, color=INK, parse_math=False)
    axis.set_ylim(len(names) - 0.4, -0.6)

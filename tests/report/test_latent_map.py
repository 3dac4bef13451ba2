"""The interactive map: every point in every projection, its image beside it, and nothing asked of the network."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from simulacra.data.image_set import ImageSet
from simulacra.report.latent_map import map_figure, render_map, thumbnail_sheet

RNG = np.random.default_rng(0)
EVIL = "</script><script>alert(1)</script>"


def table(labels: list[int]) -> pd.DataFrame:
    places = {f"{key}_{axis}": RNG.normal(size=len(labels)).round(3) for key in ("pca", "tsne") for axis in (1, 2)}
    return pd.DataFrame({"row": range(len(labels)), "label": labels, **places})


def images(n: int, *, channels: int = 1, size: int = 6) -> ImageSet:
    return ImageSet(RNG.integers(0, 256, (n, channels, size, size), np.uint8))


def test_every_point_is_drawn_once_in_its_class() -> None:
    places = table([1, 0, 1, 2, 0])
    figure = map_figure(places, ["a", "b", "c"])
    assert [trace.name for trace in figure.data] == ["a", "b", "c"]
    assert [list(trace.customdata) for trace in figure.data] == [[1, 4], [0, 2], [3]]
    assert list(figure.data[1].x) == places["tsne_1"][[0, 2]].tolist()
    assert len({trace.marker.color for trace in figure.data}) == 3


def test_buttons_move_the_points_to_the_other_projection() -> None:
    places = table([1, 0, 1])
    buttons = {button.label: button.args[0] for button in map_figure(places, ["a", "b"]).layout.updatemenus[0].buttons}
    assert list(buttons) == ["t-SNE", "principal components"]
    assert list(buttons["principal components"]["x"][1]) == places["pca_1"][[0, 2]].tolist()
    assert list(buttons["t-SNE"]["y"][0]) == places["tsne_2"][[1]].tolist()


def test_images_without_classes_are_one_trace_without_a_legend() -> None:
    figure = map_figure(table([-1, -1]), [])
    assert [trace.name for trace in figure.data] == ["image"] and not figure.layout.showlegend


def test_more_classes_than_colours_differ_by_shape() -> None:
    figure = map_figure(table(list(range(25))), [f"class {k}" for k in range(25)])
    looks = {(trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 25


def test_the_page_is_whole_and_asks_nothing_of_the_network() -> None:
    places = table([0, 1, 1])
    figure = map_figure(places, ["zero", EVIL])
    page = render_map(figure, images(3), title=f"Map {EVIL}", lead="words")
    assert "default-src 'none'" in page and 'showSendToCloud: false, plotlyServerURL: ""' in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.?https?:", page)
    assert "plotly.js v" in page and page.count("<script>") == 2 and "alert(1)</script>" not in page
    held = json.loads(re.search(r"^const figure = (.*);$", page, re.M)[1])
    assert [trace["customdata"] for trace in held["data"]] == [[0], [1, 2]]
    # plotly reads names as markup, so they are escaped in it.
    assert held["data"][1]["name"] == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.mark.parametrize(("channels", "size"), [(1, 6), (3, 6), (4, 5), (2, 7)])
def test_each_thumbnail_lies_where_the_page_looks_for_it(channels: int, size: int) -> None:
    shown = images(70, channels=channels, size=size)
    sheet, width, height = thumbnail_sheet(shown)
    pixels = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    assert (width, height) == (size, size) and pixels.shape == (3 * size, 32 * size, 3)
    for row in (0, 31, 32, 69):
        top, left = row // 32 * size, row % 32 * size
        colours = shown.images[row, :3] if channels >= 3 else np.repeat(shown.images[row, :1], 3, axis=0)
        assert (pixels[top : top + size, left : left + size] == colours.transpose(1, 2, 0)).all()


def test_large_images_become_small_thumbnails() -> None:
    _, width, height = thumbnail_sheet(images(2, size=200))
    assert max(width, height) <= 64

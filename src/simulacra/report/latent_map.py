"""The interactive map of a latent space: a plotly figure, and a page around it that opens offline."""

import json
import math
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulacra.data.image_set import ImageSet
from simulacra.plotting import MAP_TITLES, class_look

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

SHAPES = ("circle", "triangle-up", "square", "diamond")
LARGEST_THUMBNAIL = 64
SHEET_COLUMNS = 32


def map_figure(latent_map: "DataFrame", class_names: Sequence[str]) -> "Figure":
    """Return the map, one trace a class, with a button for each of its projections.

    Args:
        latent_map: columns row, label, and <map>_1 and <map>_2 for each of `MAP_TITLES`.
        class_names: empty where the images carry no classes.
    """
    import plotly.graph_objects as go

    labels = sorted(set(latent_map["label"].tolist()))
    groups = [(label, latent_map[latent_map["label"] == label]) for label in labels]
    figure = go.Figure()
    for label, dots in groups:
        colour, shape = class_look(label, SHAPES)
        figure.add_trace(
            go.Scatter(
                x=dots["tsne_1"].tolist(),
                y=dots["tsne_2"].tolist(),
                customdata=dots["row"].tolist(),
                mode="markers",
                name=escape(class_names[label]) if class_names else "image",
                marker={"color": colour, "symbol": shape, "size": 7, "opacity": 0.85},
                hovertemplate="%{fullData.name} · test image %{customdata}<extra></extra>",
            )
        )
    buttons = [
        {
            "label": title,
            "method": "restyle",
            "args": [{axis: [dots[f"{key}_{n}"].tolist() for _, dots in groups] for axis, n in (("x", 1), ("y", 2))}],
        }
        for key, title in reversed(MAP_TITLES.items())
    ]
    hidden: dict[str, Any] = {"showgrid": False, "zeroline": False, "showticklabels": False, "title": None}
    figure.update_layout(
        template="none",
        showlegend=bool(class_names),
        xaxis=hidden,
        yaxis=hidden | {"scaleanchor": "x"},
        margin={"l": 8, "r": 8, "t": 48, "b": 8},
        hovermode="closest",
        legend={"itemsizing": "constant", "bgcolor": "rgba(255, 255, 255, 0.8)"},
        dragmode="pan",
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "x": 0,
                "xanchor": "left",
                "y": 1.01,
                "yanchor": "bottom",
                "showactive": True,
            }
        ],
    )
    return figure


def render_map(figure: "Figure", thumbnails: ImageSet, title: str, lead: str) -> str:
    """Return a page with the map that shows the image of the point under the pointer.

    plotly.js and all images are part of the page, so it asks nothing of the network.

    Args:
        figure: what `map_figure` returned; each point's customdata is a row of the thumbnails.
        thumbnails: one image a point.
        title: heading of the page.
        lead: what a newcomer should know of the map.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    folder = Path(__file__).with_name("templates")
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    sheet, width, height = thumbnail_sheet(thumbnails)
    return environment.get_template("latent_map.html.jinja").render(
        title=title,
        lead=lead,
        plotly=get_plotlyjs(),
        # Within a script, "</" would end it.
        figure=json.dumps(figure.to_plotly_json()).replace("<", "\\u003c"),
        sheet=f"data:image/png;base64,{b64encode(sheet).decode()}",
        columns=SHEET_COLUMNS,
        rows=math.ceil(len(thumbnails) / SHEET_COLUMNS),
        width=width,
        height=height,
    )


def thumbnail_sheet(images: ImageSet) -> tuple[bytes, int, int]:
    """Return all images in one PNG, 32 a row, with the width and height of each; large ones are thinned out."""
    from PIL import Image

    stride = math.ceil(max(images.shape[1:]) / LARGEST_THUMBNAIL)
    pixels = images.images[:, : 3 if images.shape[0] >= 3 else 1, ::stride, ::stride]
    n, channels, height, width = pixels.shape
    rows = math.ceil(n / SHEET_COLUMNS)
    sheet = np.zeros((rows * SHEET_COLUMNS, channels, height, width), np.uint8)
    sheet[:n] = pixels
    grid = sheet.reshape(rows, SHEET_COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
    canvas = grid.reshape(rows * height, SHEET_COLUMNS * width, channels)
    buffer = BytesIO()
    Image.fromarray(canvas if channels == 3 else canvas[..., 0]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), width, height

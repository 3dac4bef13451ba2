"""The page of a study: one file that opens offline on a phone, asks, takes the time and hands over the answers."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulacra.human.study import Study


def render_page(study: Study, title: str) -> str:
    """Return the page as HTML: pictures as data addresses, style and script inline; it holds nothing of the key.

    Args:
        study: what is asked.
        title: what the images are, such as the dataset's name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    trials = [
        {"id": trial.id, "mode": trial.mode, "images": [png_uri(study.pixels(shown)) for shown in trial.shown]}
        for trial in study.trials
    ]
    modes = list(dict.fromkeys(trial.mode for trial in study.trials))
    asked = {"id": study.id, "trials": trials}
    return environment.get_template("study.html.jinja").render(title=title, study=asked, modes=modes)


def png_uri(image: NDArray[np.uint8]) -> str:
    """Return one image, (channels, height, width), as the data address of a grey or RGB PNG with pixels only."""
    from PIL import Image

    pixels = np.ascontiguousarray(image[:3].transpose(1, 2, 0) if len(image) >= 3 else image[0])
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"

import json

import numpy as np

from simulacra.exploration.panels import Panel, pack, unpack

RNG = np.random.default_rng(0)


def panel(figure: str, rows: int, columns: int) -> Panel:
    return Panel(
        figure,
        "title",
        "caption",
        tuple(f"row {k}" for k in range(rows)),
        tuple(f"column {k}" for k in range(columns)),
        RNG.integers(0, 256, (rows, columns, 3, 4, 5), np.uint8),
        apart=(1,),
        footer=("below",) * columns,
    )


def test_panels_come_back_from_pixels_and_json() -> None:
    panels = [panel("a", 2, 3), panel("b", 1, 1), panel("a", 4, 2)]
    pixels, words = pack(panels, (3, 4, 5))
    assert len(pixels) == 6 + 1 + 8
    for before, after in zip(panels, unpack(json.loads(json.dumps(words)), pixels), strict=True):
        assert (after.images == before.images).all()
        assert after.words() == before.words() and after.rows == before.rows and after.apart == (1,)


def test_no_panels_are_no_pixels() -> None:
    pixels, words = pack([], (1, 6, 7))
    assert pixels.images.shape == (0, 1, 6, 7) and unpack(words, pixels) == []

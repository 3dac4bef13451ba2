"""Editing pictures of one's own: mistakes are told before anything is trained, and a changed file is edited anew."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
TEST = ("run", "--env", "test")
EDIT = (*TEST, "--pipelines", "edit,report", "--params")
REPORTING = "data/test/08_reporting/mnist"


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory, kedro: Run) -> Path:
    """A project in which a family that denoises went through the graph."""
    place = tmp_path_factory.mktemp("edited") / "p"
    shutil.copytree(finished_project, place, symlinks=True)
    (place / "conf/test/experiments.yml").write_text("mnist:\n  families: [diffusion]\n")
    kedro(place, *TEST)
    return place


def picture(place: Path, shade: int, *, size: tuple[int, int] = (40, 30)) -> Path:
    image = Image.new("RGB", size, (0, 0, 0))
    image.paste((shade,) * 3, (10, 5, 20, 25))
    image.save(place)
    return place


def test_the_first_run_edits_test_images_and_the_report_shows_them(project: Path) -> None:
    record = json.loads((project / REPORTING / "diffusion/edits.json").read_text())
    assert record["metrics"]["fill_images"] == 20 and record["metrics"]["fill_changed_outside"] == 0
    page = (project / REPORTING / "report.html").read_text()
    assert 'id="editing"' in page and "Fill a hole" in page and "mnist.editing.images=my_picture.png" in page
    assert record["sentence"].split("(")[0] in page
    for name in ("inpainting", "image_to_image", "noise_interpolation"):
        assert (project / REPORTING / f"diffusion/{name}.png").stat().st_size > 1000


def test_a_picture_of_one_s_own_is_edited_and_again_when_it_changes(project: Path, tmp_path: Path, kedro: Run) -> None:
    from simulacra.datasets import ImageSetDataset

    mine, mask = picture(tmp_path / "mine.png", 200), tmp_path / "mask.png"
    Image.new("L", (40, 30)).save(mask)
    painted = Image.open(mask)
    painted.paste(255, (0, 0, 20, 30))
    painted.save(mask)
    said = (
        f"mnist.editing.images={mine},mnist.editing.mask={mask},mnist.editing.strength=0,mnist.editing.class_name=bar"
    )
    done = kedro(project, *EDIT, said)
    assert "Traceback" not in done.stderr
    page = (project / REPORTING / "report.html").read_text()
    assert "mine.png (40×30)" in page and "1 had to be resized to 12×12 pixels, and 1 converted to grey" in page
    edited = ImageSetDataset(filepath=str(project / REPORTING / "diffusion/edited_images.safetensors")).load().images
    # Image, hole, three fills, class told, mean, and then image and itself redrawn at strength 0.
    assert len(edited) == 9 and (edited[7] == edited[8]).all()
    assert (edited[2:6, :, :, 6:] == edited[0, :, :, 6:]).all() and (edited[1, :, :, :6] == 128).all()
    again = kedro(project, *EDIT, said)
    assert "nothing to do" in again.stdout
    picture(mine, 90)
    os.utime(mine, (1, 1))
    changed = kedro(project, *EDIT, said)
    begun = set(re.findall(r" \d+ of \d+  (\S+)$", changed.stderr, re.M))
    assert {"mnist.read_pictures", "mnist.diffusion.edit"} <= begun and "mnist.diffusion.fit" not in begun


def test_mistakes_are_told_before_anything_is_done(project: Path, tmp_path: Path, kedro: Run) -> None:
    black = tmp_path / "black.png"
    Image.new("L", (12, 12)).save(black)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    before = (project / REPORTING / "report.html").read_bytes()
    for said, message in (
        ("mnist.editing.images=nowhere.png", "nowhere.png does not exist: correct the path"),
        ("mnist.editing.mask=centre", "did you mean 'center'?"),
        (f"mnist.editing.images={broken}", "broken.png can't be used: no PNG, JPEG"),
        (f"mnist.editing.mask={black}", "black.png marks no pixel to fill"),
    ):
        done = kedro(project, *TEST, "--params", f"{said},training.steps=7", code=1)
        assert message in done.stderr and "Traceback" not in done.stderr
        assert "mnist.diffusion.fit" not in done.stderr
    assert (project / REPORTING / "report.html").read_bytes() == before

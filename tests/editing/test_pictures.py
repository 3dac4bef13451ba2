from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simulacra.data.fabricate import fabricate_images
from simulacra.editing.config import EditingConfig
from simulacra.editing.pictures import MOST_PICTURES, read_pictures
from simulacra.errors import SimulacraError

GREY = fabricate_images(n=30, size=8, channels=1, n_classes=3, seed=0)
COLOURED = fabricate_images(n=30, size=8, channels=3, n_classes=3, seed=0)


def save(path: Path, image: Image.Image) -> str:
    image.save(path)
    return str(path)


def half_white(width: int, height: int) -> Image.Image:
    image = Image.new("L", (width, height))
    image.paste(255, (0, 0, width // 2, height))
    return image


def test_without_files_the_first_test_images_of_every_class_are_edited() -> None:
    found = read_pictures(EditingConfig(examples=5), GREY)
    assert found.images.labels.tolist() == [0, 1, 2, 0, 1] and found.names == () and found.remarks == {}
    assert np.array_equal(found.images.images[0], GREY.images[GREY.labels == 0][0])


@pytest.mark.parametrize(("data", "mode"), [(GREY, "RGBA"), (GREY, "P"), (COLOURED, "L"), (COLOURED, "CMYK")])
def test_pictures_of_any_mode_and_size_become_what_the_data_are(tmp_path: Path, data, mode: str) -> None:
    image = Image.new("RGB", (40, 20), (200, 200, 200)).convert(mode)
    save(tmp_path / ("a.tiff" if mode == "CMYK" else "a.png"), image)
    save(tmp_path / "b.jpg", Image.new("L", (8, 8), 50))
    found = read_pictures(EditingConfig(images=tmp_path), data)
    assert found.images.shape == data.shape and len(found.images) == 2 and found.images.labels is None
    assert found.remarks["resized"] == 1 and found.remarks["sizes"] == [[40, 20], [8, 8]]
    assert abs(found.images.images[0].mean() - 200) < 3 and abs(found.images.images[1].mean() - 50) < 3


def test_ink_on_paper_can_be_inverted_and_a_class_be_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (8, 8), 250))
    found = read_pictures(EditingConfig(images=path, invert=True, class_name=GREY.class_names[2]), GREY)
    assert (found.images.images == 5).all() and found.images.labels.tolist() == [2] and found.names == ("a.png",)


def test_a_mask_painted_over_a_picture_lies_where_it_was_painted(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", Image.new("L", (40, 20), 9))
    mask = save(tmp_path / "mask.png", half_white(40, 20))
    cropped, padded = (
        read_pictures(EditingConfig(images=picture, mask=mask, resize=resize), GREY).mask for resize in ("crop", "pad")
    )
    assert cropped[:, :4].all() and not cropped[:, 4:].any()
    assert padded[2:6, :4].all() and padded.sum() == 16
    square = save(tmp_path / "square.png", half_white(64, 64))
    assert read_pictures(EditingConfig(mask=square), GREY).mask[:, :4].all()


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", Image.new("L", (40, 20), 9))
    square = save(tmp_path / "square.png", half_white(64, 64))
    with pytest.raises(SimulacraError, match=r"square.png has 64×64 pixels and a.png 40×20: make the mask of the pict"):
        read_pictures(EditingConfig(images=picture, mask=square), GREY)
    for shade, message in ((0, "marks no pixel to fill"), (255, "marks every pixel")):
        mask = save(tmp_path / "mask.png", Image.new("L", (8, 8), shade))
        with pytest.raises(SimulacraError, match=f"the mask .*mask.png {message}"):
            read_pictures(EditingConfig(mask=mask), GREY)
    with pytest.raises(SimulacraError, match=r"editing.box .* marks every pixel"):
        read_pictures(EditingConfig(box=(0, 0, 1, 1)), GREY)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError, match="has 0 pictures"):
        read_pictures(EditingConfig(images=tmp_path), GREY)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(SimulacraError, match=r"bad.png can't be used: no PNG, JPEG"):
        read_pictures(EditingConfig(images=bad), GREY)
    with pytest.raises(SimulacraError, match=r"bad.png can't be used: no PNG, JPEG"):
        read_pictures(EditingConfig(mask=str(bad)), GREY)
    bad.write_bytes(b"")
    with pytest.raises(SimulacraError, match=r"bad.png can't be used: zero bytes"):
        read_pictures(EditingConfig(images=tmp_path), GREY)
    for number in range(MOST_PICTURES + 1):
        save(tmp_path / f"{number}.png", Image.new("L", (8, 8)))
    with pytest.raises(
        SimulacraError, match=f"has {MOST_PICTURES + 2} pictures .*; one run edits 1 to {MOST_PICTURES}"
    ):
        read_pictures(EditingConfig(images=tmp_path), GREY)


def test_a_class_must_be_one_of_the_data_s_and_of_pictures_of_one_s_own(tmp_path: Path) -> None:
    from simulacra.data.image_set import ImageSet

    path = save(tmp_path / "a.png", Image.new("L", (8, 8)))
    with pytest.raises(SimulacraError, match="'cat' is no class of the data; there are bar"):
        read_pictures(EditingConfig(images=path, class_name="cat"), GREY)
    with pytest.raises(SimulacraError, match="the data have no classes"):
        read_pictures(EditingConfig(images=path, class_name="cat"), ImageSet(GREY.images))
    with pytest.raises(SimulacraError, match=r"name them by editing.images"):
        read_pictures(EditingConfig(class_name="bar"), GREY)

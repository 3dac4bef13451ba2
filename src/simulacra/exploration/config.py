"""Parameters of the latent-space tools."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Attribute = Literal["slant", "thickness", "brightness"]


class ExplorationConfig(BaseModel):
    """The block `exploration`: how many held-out images are encoded, and how much of what they show is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_images: int = Field(
        1000, ge=10, le=5000, description="most images that are encoded of the validation and of the test split"
    )
    attributes: tuple[Attribute, ...] = Field(
        ("slant", "thickness", "brightness"), description="what is measured of images and sought among their codes"
    )
    examples: int = Field(8, ge=1, le=20, description="images of which each attribute's slider is shown")
    pairs: int = Field(5, ge=1, le=20, description="pairs of images between which paths are shown")
    steps: int = Field(8, ge=2, le=20, description="pictures on a path")
    dimensions: int = Field(8, ge=1, le=20, description="coordinates that are traversed")
    reach: float = Field(
        3.0, gt=0, description="standard deviations of the codes that sliders and traversals go either way"
    )

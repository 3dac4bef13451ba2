"""Where the weights come from of extractors that others trained."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from simulacra.data.config import UserPath


class EfficientNetConfig(BaseModel):
    """The block `evaluation.efficientnet_lite0`.

    Example:
        >>> EfficientNetConfig().weights is None
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: UserPath | None = Field(None, description="the file of weights; null: the one that the package brings")


class InceptionConfig(BaseModel):
    """The block `evaluation.inception`.

    Example:
        >>> InceptionConfig(weights="weights.pth").download
        False
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: UserPath | None = Field(
        None, description="the file pt_inception-2015-12-05-6726825d.pth; null: the one in download_to"
    )
    download: bool = Field(False, description="whether the file may be downloaded, 91 MiB, where it is not there")
    download_to: UserPath = Field(Path("data/01_raw/downloads"), description="the folder that it is put into")


class Dinov2Config(BaseModel):
    """The block `evaluation.dinov2`.

    Example:
        >>> Dinov2Config(source="facebook/dinov2-small").sha256
        ''
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        "facebook/dinov2-large",
        min_length=1,
        description="a folder, or a name on the Hugging Face hub; of safetensors. The default is the literature's",
    )
    download: bool = Field(False, description="whether the hub may be asked for what is not on this machine")
    sha256: str = Field(
        "",
        pattern="^[0-9a-f]*$",
        description="how the hash of the weights must begin, as a passport has it; empty: any",
    )

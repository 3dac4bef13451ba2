"""Parameter blocks that only the stages know; Kedro checks them by the nodes' annotations before a run."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationInfo, field_validator

from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.config import Source
from simulacra.models import family_class
from simulacra.training.config import TrainingConfig


class SourceConfig(RootModel[Source]):
    """The block `<dataset>.source`: one of the known sources, told apart by `type`."""


class FamilyConfig(BaseModel):
    """The block `<dataset>.<family>`: `model` is checked by the family's own configuration class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = Field(description="put in by the configuration loader")
    model: dict[str, Any] = Field(default_factory=dict, description="the family's hyper-parameters")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="budget and optimiser")

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        family_class(info.data["family"]).Config.model_validate(model)
        return model


class GenerationConfig(BaseModel):
    """The block `generation`: how many samples, and how often anew."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(1000, ge=2, description="samples a seed")
    n_seeds: int = Field(3, ge=1, description="independent sample sets; their spread is the ± of every metric")


class EvaluationConfig(BaseModel):
    """The block `evaluation`: the extractor and the neighbourhood of precision, recall, density and coverage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(5, ge=1, description="k of the k-nearest-neighbour metrics")
    importance_samples: int = Field(
        1, ge=1, description="draws that a likelihood averages over: above 1, the ELBO becomes the tighter IWAE bound"
    )
    classifier: ClassifierConfig = Field(default_factory=ClassifierConfig, description="the extractor")

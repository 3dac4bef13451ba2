"""Parameter blocks that only the stages know; Kedro checks them by the nodes' annotations before a run."""

import re
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.config import Source, TextSource, UserPath
from simulacra.errors import SimulacraError
from simulacra.metrics import CLASSIFIER
from simulacra.metrics.config import Dinov2Config, EfficientNetConfig, InceptionConfig
from simulacra.models import FAMILIES, family_class
from simulacra.training.config import TrainingConfig


class SourceConfig(RootModel[Source]):
    """The block `<dataset>.source` of images: one of the known sources, told apart by `type`."""


class GuestsConfig(RootModel[dict[str, UserPath]]):
    """The block `guests`: name and place of images that other programs made, to be judged like a family's."""

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for name in self.root:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or name in {*FAMILIES, "floor", "train", "noise"}:
                raise ValueError(
                    f"{name!r} cannot name them: use lower-case letters, digits and underscores, begin with a letter, "
                    "and take no name of a family or a reference"
                )
        return self


class TextSourceConfig(RootModel[TextSource]):
    """The same of texts."""


class SamplingConfig(BaseModel):
    """The block `<dataset>.<family>.sampling`: what to draw. What is null in its second half is the model's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(40, ge=1, le=100_000, description="images")
    classes: StrictInt | StrictStr | list[StrictInt | StrictStr] | None = Field(
        None,
        description="names or indices, in turns, such as seven, 7 or '7 3 1'; null: as frequent as in the data",
    )
    prompt: str | None = Field(None, min_length=1, description="a caption in place of classes")
    seed: int = Field(0, ge=0, lt=2**32, description="the same seed gives the same images")

    guidance: float | None = Field(None, description="weight of the class or the prompt")
    sampler: str | None = Field(None, description="how noise is undone")
    steps: int | None = Field(None, description="of the sampler")
    spacing: str | None = Field(None, description="of the sampler's steps")
    eta: float | None = Field(None, description="share of the ancestral sampler's noise")
    temperature: float | None = Field(None, description="below 1: likelier images, less varied")

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_are_no_switch(cls, classes: Any) -> Any:
        if isinstance(classes, bool):
            raise ValueError("YAML takes this for true or false; give the class's index, or its name in double quotes")
        return classes

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.prompt is not None and self.classes is not None:
            raise ValueError("classes and prompt cannot both be asked for; leave one of them out")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What is asked for in place of the model's own."""
        return self.model_dump(exclude={"n", "classes", "prompt", "seed"}, exclude_none=True)


class TextSamplingConfig(BaseModel):
    """The block `<dataset>.<family>.sampling` of texts: what to draw. What is null is the model's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(10, ge=1, le=10_000, description="texts")
    prompt: str = Field("", description="what all begin with")
    tokens: int = Field(200, ge=1, le=100_000, description="most tokens that are drawn for each")
    stop: StrictStr | list[StrictStr] = Field([], description="a text ends before the first of these")
    seed: int = Field(0, ge=0, lt=2**32, description="the same seed gives the same texts")

    temperature: float | None = Field(None, description="below 1: likelier tokens; 0: the likeliest")
    top_k: int | None = Field(None, description="only so many of the likeliest tokens; 0: all")
    top_p: float | None = Field(None, description="only the likeliest tokens that make up this share")
    repetition_penalty: float | None = Field(None, description="above 1: what was said is less likely to be said again")

    @property
    def stops(self) -> list[str]:
        """What ends a text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def options(self) -> dict[str, Any]:
        """What is asked for in place of the model's own."""
        return self.model_dump(exclude={"n", "prompt", "tokens", "stop", "seed"}, exclude_none=True)


class _FamilyBlock(BaseModel):
    """What the block `<dataset>.<family>` holds for families of any kind; a subclass adds its `sampling`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = Field(description="put in by the configuration loader")
    model: dict[str, Any] = Field(default_factory=dict, description="the family's hyper-parameters")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="budget and optimiser")

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        family_class(info.data["family"]).Config.model_validate(model)
        return model

    @field_validator("sampling", check_fields=False)
    @classmethod
    def _check_sampling(cls, sampling: Any, info: ValidationInfo) -> Any:
        if "model" in info.data and sampling.options:
            family = family_class(info.data["family"])
            try:
                family.reconfigured(family.Config.model_validate(info.data["model"]), sampling.options)
            except SimulacraError as error:
                raise ValueError(str(error)) from error
        return sampling


class FamilyConfig(_FamilyBlock):
    """The block `<dataset>.<family>`: `model`, and what `sampling` changes of it, are checked by the family's class."""

    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="what to draw for a reader")


class TextFamilyConfig(_FamilyBlock):
    """The block `<dataset>.<family>` of a family of texts."""

    sampling: TextSamplingConfig = Field(default_factory=TextSamplingConfig, description="what to draw for a reader")


class LanguageConfig(BaseModel):
    """The block `language`: what texts are generated to be judged, and how a likelihood is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(20, ge=2, description="texts a seed")
    n_seeds: int = Field(3, ge=1, description="independent sets of texts; their spread is the ± of every metric")
    tokens: int = Field(200, ge=16, description="tokens of a text")
    prompt: str = Field("", description="what all begin with")
    stride: int = Field(0, ge=0, description="tokens from one window of the likelihood to the next; 0: half a context")
    limit: int = Field(
        200_000, ge=0, description="bytes of held-out text whose likelihood is measured; 0 for all there are"
    )


class GenerationConfig(BaseModel):
    """The block `generation`: how many samples, and how often anew."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(1000, ge=2, description="samples a seed")
    n_seeds: int = Field(3, ge=1, description="independent sample sets; their spread is the ± of every metric")


class EvaluationConfig(BaseModel):
    """The block `evaluation`: the extractors and the neighbourhood of precision, recall, density and coverage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extractors: list[Literal["classifier", "efficientnet_lite0", "inception", "dinov2"]] = Field(
        ["classifier"], min_length=1, description="whose features are compared; a list, or names parted by blanks"
    )
    neighbours: int = Field(5, ge=1, description="k of the k-nearest-neighbour metrics")
    importance_samples: int = Field(
        1, ge=1, description="draws that a likelihood averages over: above 1, the ELBO becomes the tighter IWAE bound"
    )
    classifier: ClassifierConfig = Field(
        default_factory=ClassifierConfig, description="the extractor that is trained on the dataset itself"
    )
    accuracy_score: ClassifierConfig | None = Field(
        None, description="the classifier that is trained on samples and asked about real images; null: none is"
    )
    efficientnet_lite0: EfficientNetConfig = Field(
        default_factory=EfficientNetConfig, description="weights of that extractor"
    )
    inception: InceptionConfig = Field(default_factory=InceptionConfig, description="weights of that extractor")
    dinov2: Dinov2Config = Field(default_factory=Dinov2Config, description="weights of that extractor")

    @field_validator("extractors", mode="before")
    @classmethod
    def _parted_by_blanks(cls, extractors: Any) -> Any:
        return extractors.split() if isinstance(extractors, str) else extractors

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if len({*self.extractors}) < len(self.extractors):
            raise ValueError(f"extractors names one twice: {', '.join(self.extractors)}")
        from simulacra.metrics.pretrained import check

        for config in self.pretrained:
            try:
                check(config)
            except SimulacraError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def pretrained(self) -> list[EfficientNetConfig | InceptionConfig | Dinov2Config]:
        """The blocks of those extractors that others trained."""
        return [getattr(self, name) for name in self.extractors if name != CLASSIFIER]

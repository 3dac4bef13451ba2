"""Parameters of human evaluation: the study, the rules of exclusion, and answers in a format of their own."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simulacra.data.config import UserPath

Mode = Literal["real_or_fake", "preference"]


def _several(value: Any) -> Any:
    """Let one value stand for a list of one, since a command line cannot carry a list."""
    return value if isinstance(value, list | tuple) else (value,)


Words = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
Modes = Annotated[tuple[Mode, ...], BeforeValidator(_several), Field(min_length=1)]


class StudyConfig(BaseModel):
    """The block `human_study`: what a rater is asked, and how often.

    Example:
        >>> StudyConfig(modes="preference").modes
        ('preference',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(100, ge=4, le=2000, description="questions a rater, attention checks included")
    modes: Modes = Field(
        ("real_or_fake", "preference"), description="real_or_fake and preference; the trials are shared out evenly"
    )
    checks: float = Field(0.1, ge=0, le=0.5, description="share of the trials whose answer is obvious")
    seed: int | None = Field(None, ge=0, lt=2**32, description="of the choice of images; null for the run's")

    @model_validator(mode="after")
    def _modes_differ(self) -> Self:
        if len(set(self.modes)) < len(self.modes):
            raise ValueError(f"modes names one twice: {', '.join(self.modes)}")
        return self


class ExclusionConfig(BaseModel):
    """The block `human_results.exclude`: whose answers are left out; null switches a rule off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failed_checks: float | None = Field(
        0.25, ge=0, le=1, description="raters who failed more than this share of their attention checks"
    )
    median_seconds: float | None = Field(
        0.4, ge=0, description="raters whose median time to an answer is shorter than this"
    )
    answers: int | None = Field(20, ge=1, description="raters who gave fewer answers than this, checks not counted")


class ColumnsConfig(BaseModel):
    """The block `human_results.columns`: how a CSV file that no study of this project made is to be read.

    A row is one answer (`said`), or it counts the answers to one image (`count` and `count_generated`).

    Example:
        >>> ColumnsConfig(shown="is_fake", real=0, generated=1, count="n", count_generated="n_fake").real
        ('0',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    shown: str = Field(description="column that tells whether the image was real")
    real: Words = Field(("real",), description="what stands in it for a real image")
    generated: Words = Field(("generated",), description="what stands in it for a generated one")
    family: str | None = Field(None, description="column with the name of what generated it; null: all are one family")
    image: str | None = Field(None, description="column that names the image; without it there is no agreement")

    said: str | None = Field(None, description="column with a rater's answer")
    said_real: Words | None = Field(None, description="what stands in it for real; null: as in `real`")
    said_generated: Words | None = Field(None, description="what stands in it for generated; null: as in `generated`")
    rater: str | None = Field(None, description="column that names the rater; null: not known")
    time: str | None = Field(None, description="column with the time to the answer")
    time_unit: Literal["seconds", "milliseconds"] = Field("seconds", description="of that column")

    count: str | None = Field(None, description="column with the number of answers")
    count_generated: str | None = Field(None, description="column with how many of them were: generated")
    delimiter: str = Field(",", min_length=1, max_length=1, description="what parts the columns")

    @model_validator(mode="after")
    def _answers_or_counts(self) -> Self:
        counted = self.count is not None and self.count_generated is not None
        if counted == (self.said is not None) or (self.count is None) != (self.count_generated is None):
            raise ValueError("columns needs either said, or count and count_generated")
        if counted and (self.rater or self.time):
            raise ValueError("where answers are counted, no row has a rater or a time: leave rater and time out")
        if both := {*self.real} & {*self.generated}:
            raise ValueError(f"columns: {sorted(both)[0]!r} cannot mean both real and generated")
        return self


class ResultsConfig(BaseModel):
    """The block `human_results`: where the answers are, and which of them count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: UserPath = Field(Path("data/01_raw/{dataset}/human_answers"), description="a CSV file or a folder of them")
    columns: ColumnsConfig | None = Field(None, description="columns of another format; null for this project's own")
    exclude: ExclusionConfig = Field(default_factory=ExclusionConfig, description="whose answers are left out")

    def files(self) -> list[Path]:
        """Return the places outside the project that are read."""
        return [self.answers.expanduser()]

"""Parameters of retraining: when to train anew, and what a challenger must show to take over."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from simulacra.metrics import METRICS
from simulacra.models import FAMILIES
from simulacra.sentinels.rules import RULES

Verdict = Literal["helps", "no effect", "hurts", "not applicable"]


def _several(value: Any) -> Any:
    """Let words parted by commas or blanks stand for a list, since a command line cannot carry one."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _one_or_several(value: Any) -> Any:
    """Let words parted by commas alone stand for a list, where blanks belong to the words."""
    return tuple(value.split(",")) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_several)]
Verdicts = Annotated[tuple[Verdict, ...], BeforeValidator(_one_or_several)]


class Margin(BaseModel):
    """By how much a metric may differ before that counts: a share of the champion's value, or a number.

    Example:
        >>> Margin(relative=0.1).of(20.0), Margin(absolute=0.5).of(20.0)
        (2.0, 0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    relative: float | None = Field(None, ge=0, allow_inf_nan=False, description="share of the champion's value")
    absolute: float | None = Field(None, ge=0, allow_inf_nan=False, description="in the metric's own unit")

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.relative is None) == (self.absolute is None):
            raise ValueError("a margin is either relative or absolute: give one of the two")
        return self

    def of(self, value: float) -> float:
        """Return the margin in the metric's unit, of this value."""
        return self.absolute if self.absolute is not None else (self.relative or 0.0) * abs(value)


class CostCeilings(BaseModel):
    """The block `retraining.gate.costs`: how many times the champion's cost a challenger's may be; null for any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train_seconds: float | None = Field(None, gt=0, description="factor of the time to train")
    sample_ms: float | None = Field(None, gt=0, description="factor of the time to draw one sample")
    parameters: float | None = Field(None, gt=0, description="factor of the number of parameters")


class GateConfig(BaseModel):
    """The block `retraining.gate`: what a challenger must show, and what refuses it.

    Example:
        >>> config = GateConfig(margins={"recall": {"absolute": 0.05}}, noise={"fd_classifier": 0.1})
        >>> config.noise_of("fd_classifier"), config.noise_of("kid_classifier")
        (0.1, 0.05)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="of a change's two-sided interval, for all challengers or guarded metrics together",
    )
    margins: dict[str, Margin] = Field(
        default_factory=dict,
        description="by metric: the ranking one must become better by more, any other one may become worse by it",
    )
    noise: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description="by metric: standard deviation over seeds of the training alone, as a share of its value",
    )
    noise_otherwise: float = Field(0.05, ge=0, allow_inf_nan=False, description="the same of a metric not in noise")
    noise_trainings: int | None = Field(
        None, ge=2, description="how many trainings noise was measured by; null: take it as exact"
    )
    memorised_above_floor: float | None = Field(
        0.03, ge=0, le=1, description="images: by how much more may be memorised than of real ones; null: any share"
    )
    copied_above_floor: float | None = Field(
        0.1, ge=0, le=1, description="texts: by how much more may be copied than of real ones; null: any share"
    )
    costs: CostCeilings = Field(default_factory=CostCeilings, description="ceilings, as factors of the champion's")
    refusing_flags: Words = Field(
        ("mode_collapse", "missing_kinds", "gradients_explode", "diverges"),
        description="sentinels' flags that refuse a challenger",
    )
    refusing_verdicts: Verdicts = Field(
        ("hurts",), description="verdicts of the stage augment that refuse a challenger"
    )

    @field_validator("margins", "noise")
    @classmethod
    def _metrics_are_known(cls, named: dict[str, Any]) -> dict[str, Any]:
        for key in named:
            if key not in METRICS:
                raise ValueError(f"there is no metric {key!r}; there are {', '.join(METRICS)}")
        return named

    @field_validator("refusing_flags")
    @classmethod
    def _flags_are_known(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        for flag in flags:
            if flag not in RULES:
                raise ValueError(f"no sentinel raises {flag!r}; there are {', '.join(RULES)}")
        return flags

    def noise_of(self, metric: str) -> float:
        """Return the training seed's relative standard deviation of a metric."""
        return self.noise.get(metric, self.noise_otherwise)


class WhenConfig(BaseModel):
    """The block `retraining.when`: what is reason enough to train anew; null switches a reason off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new_share: float | None = Field(
        0.1, ge=0, le=1, description="share of today's training data that the champion has not seen, from which on"
    )
    drift: float | None = Field(
        0.01,
        gt=0,
        lt=1,
        description="p-value below which fresh data count as other than what the champion was fitted to",
    )
    decay: Margin | None = Field(
        Margin(relative=0.1), description="by how much the champion's ranking metric may be worse on fresh data"
    )
    max_age_days: float | None = Field(None, gt=0, description="days after which a champion is too old")
    force: bool = Field(False, description="train anew whatever the data say")


class RetrainingConfig(BaseModel):
    """The block `retraining`: when to train anew, what, and what comes of it.

    Example:
        >>> RetrainingConfig(families="gmm vae", when={"max_age_days": 30}).families
        ('gmm', 'vae')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: Words | None = Field(
        None, description="that are trained anew; null: the champion's, or all of the dataset's where there is none"
    )
    start: Literal["scratch", "champion"] = Field(
        "scratch",
        description="what a network's weights are at first: random, or the champion's where it is of such a one",
    )
    when: WhenConfig = Field(default_factory=WhenConfig, description="the reasons")
    gate: GateConfig = Field(default_factory=GateConfig, description="what a challenger must show")
    dry_run: bool = Field(False, description="decide and tell, and change nothing")
    promote: bool = Field(True, description="whether a challenger that passes the gate becomes the champion by itself")

    @field_validator("families")
    @classmethod
    def _families_are_known(cls, families: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if families is not None and (not families or len(set(families)) < len(families)):
            raise ValueError("families must name each family once, one at least; null stands for the champion's")
        for family in families or ():
            if family not in FAMILIES:
                raise ValueError(f"there is no family {family!r}; there are {', '.join(FAMILIES)}")
        return families

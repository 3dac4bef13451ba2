"""The budget and the optimiser of one training run: every key of a `training:` block."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """How long and how to train; the names are the YAML keys.

    Example:
        >>> TrainingConfig(steps=100).schedule
        'cosine'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch_size: int = Field(64, ge=1, description="examples per step")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="shape of the learning rate after warm-up")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    gradient_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 switches clipping off")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0 switches them off")
    validate_every: int = Field(100, ge=1, description="steps between two passes over the validation set")
    patience: int = Field(0, ge=0, description="validations without progress before stopping; 0 never stops early")
    log_every: int = Field(10, ge=1, description="steps between two points of a curve")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device gains by it")
    channels_last: bool | Literal["auto"] = Field("auto", description="memory format of convolutions")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, else mps, else cpu")
    checkpoint_minutes: float = Field(5.0, ge=0, description="minutes between checkpoints; 0 switches them off")
    resume: bool = Field(True, description="go on from the checkpoint of an interrupted run")

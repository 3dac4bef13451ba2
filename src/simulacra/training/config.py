"""The budget and the optimiser of one training run: every key of a `training:` block."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RUNTIME = (
    "compile",
    "watch_every",
    "watch_samples",
    "checkpoint_minutes",
    "checkpoint_steps",
    "keep_last",
    "resume",
    "processes",
    "hosts",
    "rendezvous",
    "restarts",
)
"""Keys that change no result but for its last digits: when to save, whether to go on, how many share the work."""


class TrainingConfig(BaseModel):
    """How long and how to train; the names are the YAML keys.

    Example:
        >>> TrainingConfig(steps=100).schedule
        'cosine'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch_size: int = Field(64, ge=1, description="examples per step")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: matrices by Muon at AdamW's scale, the rest by AdamW; for families that name them"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="shape of the learning rate after warm-up")
    final_rate: float = Field(0.0, ge=0, le=1, description="share of the peak learning rate that a cosine ends at")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    gradient_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 switches clipping off")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0 switches them off")
    validate_every: int = Field(100, ge=1, description="steps between two passes over the validation set")
    patience: int = Field(0, ge=0, description="validations without progress before stopping; 0 never stops early")
    watch_every: int = Field(
        0, ge=0, description="steps between two looks at samples of the half-trained model, for collapse; 0: none"
    )
    watch_samples: int = Field(100, ge=20, description="samples a look")
    log_every: int = Field(10, ge=1, description="steps between two points of a curve")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device gains by it")
    channels_last: bool | Literal["auto"] = Field("auto", description="memory format of convolutions")
    compile: bool | Literal["auto"] = Field(
        "auto",
        description="build the loss by torch.compile: seconds to a minute first, quicker steps then; auto: in "
        "trainings of 5,000 steps or more, where the network gains by it; needs a C++ compiler",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, else mps, else cpu")
    checkpoint_minutes: float = Field(5.0, ge=0, description="minutes between checkpoints; 0: not by time")
    checkpoint_steps: int = Field(0, ge=0, description="steps between checkpoints; 0: not by step")
    keep_last: int = Field(2, ge=1, description="checkpoints kept: the newest so many")
    keep_best: bool = Field(False, description="end with the weights of the best validation, not with the last")
    resume: bool | Literal["if_same"] = Field(
        True,
        description="go on from the checkpoint of an interrupted run; if_same: and begin anew, rather than refuse, "
        "where that was of other data or settings",
    )
    processes: int = Field(1, ge=1, description="processes that share each batch, on each host; on GPUs one a GPU")
    hosts: int = Field(1, ge=1, description="hosts that share each batch; the same command is run on every one")
    rendezvous: str = Field("", description="host:port of the first host, where several find each other")
    restarts: int = Field(3, ge=0, description="times that all begin again from the last checkpoint when one dies")

    @model_validator(mode="after")
    def _processes_can_work_together(self) -> Self:
        if self.hosts > 1 and not re.fullmatch(r"[^\s:]+:\d+", self.rendezvous):
            raise ValueError(f"{self.hosts} hosts need rendezvous, host:port of the first one, got {self.rendezvous!r}")
        if self.batch_size % (self.processes * self.hosts):
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of processes × hosts, to be shared evenly"
            )
        return self

"""Learning rate over the course of a run."""

import math

from simulacra.training.config import TrainingConfig


def learning_rate_factor(config: TrainingConfig, step: int) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then a cosine or a constant.

    Source: Loshchilov & Hutter (2017), arXiv:1608.03983, without restarts.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * progress))

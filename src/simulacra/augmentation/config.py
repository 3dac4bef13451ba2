"""Parameters of the classifiers and of the augmentation trial."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from simulacra.training.config import TrainingConfig


class ClassifierConfig(BaseModel):
    """A convolutional classifier and its training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(32, ge=4, description="channels of the first convolution")
    n_features: int = Field(64, ge=2, description="size of the penultimate layer")
    shift: int = Field(2, ge=0, description="training images are moved at random by up to so many pixels")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="budget and optimiser")


class AugmentationConfig(BaseModel):
    """The trial: does a classifier with few real images gain by synthetic ones?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images_per_class: int = Field(20, ge=2, description="real images a class in the scarce set")
    synthetic_per_class: int = Field(200, ge=1, description="synthetic images a class that are added")
    real_share: float = Field(0.5, gt=0, lt=1, description="share of real images in the augmented set's batches")
    n_seeds: int = Field(5, ge=5, description="repetitions: each draws its own scarce set and trains anew")
    generator_data: Literal["scarce", "train"] = Field(
        "scarce", description="what the generator saw: the scarce set alone (honest), or the whole training split"
    )
    generator_steps: int = Field(
        300, ge=1, description="optimiser steps of a generator that is refitted on a scarce set"
    )
    generator_batch_size: int = Field(
        32, ge=1, description="examples a step of it, at most: larger batches of so few images cost more, give no more"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of the interval of the difference")
    classifier: ClassifierConfig = Field(default_factory=ClassifierConfig, description="the user's classifier")

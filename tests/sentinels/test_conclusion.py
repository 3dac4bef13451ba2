import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.sentinels.conclusion import conclude
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History

DATA = fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=0)
TRAINING = TrainingConfig(steps=100, watch_samples=60)


class Repeating:
    """A model that has but one image."""

    def sample(self, n: int, *, seed: int) -> ImageSet:
        return DATA.take([4] * n)


def test_a_collapsed_model_is_flagged_by_one_last_look() -> None:
    found = conclude(History(), Repeating(), DATA, TRAINING, seed=0)
    assert found["samples"]["near_duplicates"] == 1
    assert {flag["name"] for flag in found["flags"]} == {"mode_collapse", "missing_kinds"}
    assert all(flag["symptom"] and flag["remedy"] and flag["step"] == 0 for flag in found["flags"])


def test_a_fitted_mixture_raises_none() -> None:
    model = GaussianMixture(GMMConfig())
    history = model.fit(DATA, training=TRAINING)
    assert conclude(history, model, DATA, TRAINING, seed=0)["flags"] == []


def test_flags_of_the_curves_are_gathered_once_each_with_their_own_step() -> None:
    history = History()
    for step in (30, 40, 50, 60):
        history.add(step, "samples", {"near_duplicates": 0.9, "relative_kinds": 1.0})
    found = conclude(history, Repeating(), DATA, TRAINING, seed=0)
    assert [(flag["name"], flag["step"]) for flag in found["flags"]] == [("mode_collapse", 40), ("missing_kinds", 60)]
    assert np.isfinite(list(found["samples"].values())).all()


@pytest.mark.parametrize("step", [10, 20])
def test_curves_of_the_beginning_raise_none(step: int) -> None:
    history = History()
    for _ in range(3):
        history.add(step, "samples", {"near_duplicates": 0.9})
    model = GaussianMixture(GMMConfig())
    model.fit(DATA, training=TRAINING)
    assert conclude(history, model, DATA, TRAINING, seed=0)["flags"] == []

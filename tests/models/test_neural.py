"""What every trained family does while it is trained: its samples are looked at, and it is heard of."""

import logging
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.models.base import Condition
from simulacra.models.vae import VAE, VAEConfig
from simulacra.training.config import TrainingConfig
from simulacra.training.history import LISTENER

DATA = fabricate_images(n=200, size=8, channels=1, n_classes=2, seed=0)
CONFIG = VAEConfig(latent_dim=2, width=4, levels=1)
TRAINING = TrainingConfig(steps=40, batch_size=16, watch_every=10, watch_samples=40)
Heard = list[tuple[int, str, Mapping[str, float]]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    points: Heard = []
    token = LISTENER.set(lambda *point: points.append(point))
    yield points
    LISTENER.reset(token)


class Collapsed(VAE):
    """A VAE that draws one image only."""

    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        one = super().sample(1, seed=0)
        return ImageSet(np.repeat(one.images, n, axis=0))


def test_samples_are_watched_while_the_network_is_trained(heard: Heard) -> None:
    history = VAE(CONFIG).fit(DATA, training=TRAINING)
    table = history.frame()
    looks = table[table["split"] == "samples"]
    assert sorted(set(looks["step"])) == [10, 20, 30, 40]
    assert set(looks["name"]) == {"near_duplicates", "relative_coverage", "relative_kinds"}
    assert [step for step, split, _ in heard if split == "samples"] == [10, 20, 30, 40]


def test_watching_changes_nothing_of_what_is_learnt() -> None:
    watched, alone = VAE(CONFIG), VAE(CONFIG)
    watched.fit(DATA, training=TRAINING)
    alone.fit(DATA, training=TRAINING.model_copy(update={"watch_every": 0}))
    assert watched.fingerprint() == alone.fingerprint()


def test_a_collapse_is_told_when_it_happens(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Collapsed(CONFIG).fit(DATA, training=TRAINING)
    assert (20, "flags", {"mode_collapse": 1.0}) in heard
    assert "step 20: most samples are near copies of one another. Remedy:" in caplog.text


@pytest.mark.parametrize("seed", range(2))
def test_a_healthy_training_tells_of_none(seed: int, heard: Heard) -> None:
    training = TrainingConfig(steps=1000, batch_size=32, learning_rate=5e-3, watch_every=250, watch_samples=60)
    VAE(VAEConfig(latent_dim=8, width=16, levels=2)).fit(DATA, training=training, seed=seed)
    assert len([point for point in heard if point[1] == "samples"]) == 4
    assert not [point for point in heard if point[1] == "flags"]

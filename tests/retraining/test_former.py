"""Where a training begins: what is taken from a real registry, and what a fit makes of it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kedro.io import DatasetError

from simulacra.data.fabricate import fabricate_images
from simulacra.datasets import FormerDataset
from simulacra.errors import SimulacraError
from simulacra.metrics.passport import passport_id
from simulacra.models.vae import VAE, VAEConfig
from simulacra.retraining.former import Former, former_of
from simulacra.retraining.registry import Registry, Version
from simulacra.tracking.config import TrackingConfig
from simulacra.training.config import TrainingConfig

PASSPORT = {"n_real": 20, "seeds": [0, 1]}
RECORD: dict[str, Any] = {"passport": PASSPORT, "passport_id": passport_id(PASSPORT), "metrics": {}}


def fitted(seed: int, former: VAE | None = None) -> VAE:
    model = VAE(VAEConfig(width=4, latent_dim=2, levels=1))
    if former is not None:
        model.begin_from(former)
    data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=seed)
    model.fit(data, training=TrainingConfig(steps=3, batch_size=8))
    return model


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(TrackingConfig(), tmp_path_factory.mktemp("store"), "shapes")


def champion(registry: Registry, model: VAE, **training: Any) -> Version:
    version = registry.register_model(model, record=RECORD | {"training": training})
    return registry.promote(version.number)


def test_a_training_begins_from_the_champion_and_again_from_what_that_began_from_while_the_data_are_the_same(
    registry: Registry,
) -> None:
    assert former_of(registry, "any") == Former()
    first = fitted(0)
    version = champion(registry, first)
    assert former_of(registry, first.train_sha256) == Former()
    found = former_of(registry, "other data")
    assert found.version == version.number and found.model is not None
    assert found.model.fingerprint() == first.fingerprint()

    second = fitted(1, former=first)
    assert second.fingerprint() != fitted(1).fingerprint()
    later = champion(registry, second, begun_from_version=version.number)
    assert former_of(registry, second.train_sha256).version == version.number
    assert former_of(registry, "other data").version == later.number


def test_a_former_model_is_kept_as_a_folder_and_none_by_no_folder(tmp_path: Path) -> None:
    dataset = FormerDataset(str(tmp_path / "former"))
    assert dataset.load() == Former() and dataset.fingerprint() == "absent"
    dataset.save(Former())
    none = dataset.fingerprint()
    assert dataset.load() == Former() and none not in (None, "absent")
    model = fitted(0)
    dataset.save(Former(3, model))
    found = dataset.load()
    assert found.version == 3 and found.model is not None and dataset.fingerprint() != none
    assert np.array_equal(found.model.sample(2, seed=0).images, model.sample(2, seed=0).images)
    (tmp_path / "former/version.json").write_text("{}")
    assert dataset.fingerprint() is None
    with pytest.raises(DatasetError, match=r"version\.json is damaged"):
        dataset.load()
    shutil.rmtree(tmp_path / "former")
    assert dataset.load() == Former()


def test_a_training_that_began_elsewhere_does_not_go_on_with_its_checkpoints(tmp_path: Path) -> None:
    data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
    training = TrainingConfig(steps=3, batch_size=8, checkpoint_steps=1)
    VAE(VAEConfig(width=4, latent_dim=2, levels=1)).fit(data, training=training, checkpoints=tmp_path)
    later = VAE(VAEConfig(width=4, latent_dim=2, levels=1))
    later.begin_from(fitted(1))
    with pytest.raises(SimulacraError, match="begun_from"):
        later.fit(data, training=training, checkpoints=tmp_path)

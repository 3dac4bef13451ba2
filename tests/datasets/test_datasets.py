from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from simulacra.augmentation.classifiers import ImageClassifier
from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.image_set import ImageSet
from simulacra.datasets import CheckpointFolder, ClassifierDataset, ImageSetDataset, ModelDataset
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.training.config import TrainingConfig


@pytest.mark.parametrize("labelled", [True, False])
def test_an_image_set_returns_as_it_was(images: ImageSet, tmp_path: Path, labelled: bool) -> None:
    data = images if labelled else ImageSet(images.images)
    dataset = ImageSetDataset(str(tmp_path / "a/b.safetensors"))
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists() and dataset.load().fingerprint() == data.fingerprint()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.safetensors"]


def test_a_missing_or_cut_image_set_is_named(images: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    dataset = ImageSetDataset(str(path))
    with pytest.raises(DatasetError, match=r"x\.safetensors is not there yet"):
        dataset.load()
    dataset.save(images)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"x\.safetensors is damaged"):
        dataset.load()


def test_a_model_returns_as_its_own_family(images: ImageSet, tmp_path: Path) -> None:
    model = GaussianMixture(GMMConfig(pca_dim=3, components=(1,)))
    model.fit(images, training=TrainingConfig())
    dataset = ModelDataset(str(tmp_path / "model"))
    dataset.save(model)
    dataset.save(model)  # over an older one
    loaded = dataset.load()
    assert isinstance(loaded, GaussianMixture)
    assert loaded.sample(4, seed=1).fingerprint() == model.sample(4, seed=1).fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_model(images: ImageSet, tmp_path: Path) -> None:
    model = GaussianMixture(GMMConfig(pca_dim=3, components=(1,)))
    model.fit(images, training=TrainingConfig())
    dataset = ModelDataset(str(tmp_path / "model"))
    dataset.save(model)
    broken = GaussianMixture(GMMConfig())
    broken.tensors = lambda: 1 / 0
    with pytest.raises(DatasetError):
        dataset.save(broken)
    assert dataset.load().config == model.config


@pytest.mark.parametrize("damage", ["cut", "json", "other family"])
def test_a_damaged_model_is_named(images: ImageSet, tmp_path: Path, damage: str) -> None:
    model = GaussianMixture(GMMConfig(pca_dim=3, components=(1,)))
    model.fit(images, training=TrainingConfig())
    dataset = ModelDataset(str(tmp_path / "model"))
    dataset.save(model)
    facts, tensors = tmp_path / "model/model.json", tmp_path / "model/tensors.safetensors"
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:50])
    elif damage == "json":
        facts.write_text(facts.read_text()[:40])
    else:
        facts.write_text(facts.read_text().replace('"gmm"', '"gone"'))
    with pytest.raises(DatasetError, match=r"damaged|unknown family 'gone'"):
        dataset.load()


def test_a_pickle_in_the_place_of_a_model_is_never_opened(tmp_path: Path) -> None:
    import pickle

    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (canary,)

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_text('{"family": "gmm", "config": {}, "shape": [1, 2, 2], "class_names": []}')
    (folder / "tensors.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DatasetError, match="damaged"):
        ModelDataset(str(folder)).load()
    assert not canary.exists()


def test_a_classifier_returns(images: ImageSet, tmp_path: Path) -> None:
    classifier = ImageClassifier(ClassifierConfig(width=4), 1, images.class_names).eval()
    dataset = ClassifierDataset(str(tmp_path / "classifier"))
    dataset.save(classifier)
    assert (dataset.load().predict(images.images) == classifier.predict(images.images)).all()


def test_a_checkpoint_folder_is_there_when_asked_for(tmp_path: Path) -> None:
    dataset = CheckpointFolder(str(tmp_path / "a/b"))
    assert dataset.exists() and dataset.load().is_dir()
    with pytest.raises(DatasetError, match="no node's output can be saved there"):
        dataset.save(np.zeros(1))

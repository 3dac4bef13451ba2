from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from simulacra import files
from simulacra.augmentation.classifiers import ImageClassifier
from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.image_set import ImageSet
from simulacra.datasets import CheckpointFolder, ClassifierDataset, ImageSetDataset, ModelDataset
from simulacra.errors import SimulacraError
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.training.config import TrainingConfig


@pytest.mark.parametrize("labelled", [True, False])
def test_an_image_set_returns_as_it_was(images: ImageSet, tmp_path: Path, labelled: bool) -> None:
    data = images if labelled else ImageSet(images.images)
    dataset = ImageSetDataset(str(tmp_path / "a/b.safetensors"))
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists() and dataset.load().fingerprint() == data.fingerprint()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b.safetensors", ".b.safetensors.seal"}


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
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.seal"}


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


@pytest.mark.parametrize("file", ["model.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: data[:-1] + b"!", lambda data: b""])
def test_a_damaged_model_is_named(images: ImageSet, tmp_path: Path, file: str, damage: Callable) -> None:
    model = GaussianMixture(GMMConfig(pca_dim=3, components=(1,)))
    model.fit(images, training=TrainingConfig())
    dataset = ModelDataset(str(tmp_path / "model"))
    dataset.save(model)
    path = tmp_path / "model" / file
    path.write_bytes(damage(path.read_bytes()))
    assert not dataset.exists() and dataset.fingerprint() is None
    with pytest.raises(DatasetError, match=f"model/{file} is damaged"):
        dataset.load()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ('{"family": "gone"}', "unknown family 'gone'"),
        ('{"family": "gmm"}', "config"),
        ('{"family": "gmm", "config": {"colour": 1}}', "colour"),
        ("[]", "list indices"),
        ("{", "Expecting property name"),
    ],
)
def test_a_whole_model_of_another_version_is_named_with_the_reason(tmp_path: Path, facts: str, reason: str) -> None:
    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.json").write_text(facts)

    files.write(tmp_path / "model", fill)
    with pytest.raises(DatasetError, match=rf"model was written by another version.*{reason}") as caught:
        ModelDataset(str(tmp_path / "model")).load()
    assert isinstance(caught.value.__cause__, SimulacraError)


def test_weights_that_do_not_fit_the_network_are_named(images: ImageSet, tmp_path: Path) -> None:
    classifier = ImageClassifier(ClassifierConfig(width=4), 1, images.class_names)
    wider = ImageClassifier(ClassifierConfig(width=8), 1, images.class_names)

    def fill(folder: Path) -> None:
        folder.mkdir()
        classifier.save(folder)
        facts = (folder / "classifier.json").read_bytes()
        wider.save(folder)
        (folder / "classifier.json").write_bytes(facts)

    files.write(tmp_path / "classifier", fill)
    with pytest.raises(DatasetError, match=r"classifier was written by another version.*size mismatch"):
        ClassifierDataset(str(tmp_path / "classifier")).load()


def test_a_classifier_returns(images: ImageSet, tmp_path: Path) -> None:
    classifier = ImageClassifier(ClassifierConfig(width=4), 1, images.class_names).eval()
    dataset = ClassifierDataset(str(tmp_path / "classifier"))
    dataset.save(classifier)
    assert (dataset.load().predict(images.images) == classifier.predict(images.images)).all()


def test_a_checkpoint_folder_is_there_when_asked_for(tmp_path: Path) -> None:
    dataset = CheckpointFolder(str(tmp_path / "a/b"))
    assert dataset.exists() and dataset.load().is_dir()
    assert not hasattr(dataset, "fingerprint")
    with pytest.raises(DatasetError, match="no node's output can be saved there"):
        dataset.save(np.zeros(1))


def test_the_space_that_is_asked_for_is_that_of_the_data(images: ImageSet, tmp_path: Path) -> None:
    model = GaussianMixture(GMMConfig(pca_dim=3, components=(1,)))
    model.fit(images, training=TrainingConfig())
    classifier = ImageClassifier(ClassifierConfig(width=4), 1, images.class_names)
    for dataset, data in (
        (ImageSetDataset(str(tmp_path / "images")), images),
        (ModelDataset(str(tmp_path / "model")), model),
        (ClassifierDataset(str(tmp_path / "classifier")), classifier),
    ):
        dataset.save(data)
        place = dataset._filepath
        large = place if place.is_file() else place / "tensors.safetensors"
        assert 0 < large.stat().st_size - dataset._need(data) < 4096  # the header's

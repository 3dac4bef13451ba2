import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.base import Prompt
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.training.config import TrainingConfig


def fitted(*names: str) -> GaussianMixture:
    model = GaussianMixture(GMMConfig(pca_dim=2, components=(1,)))
    data = fabricate_images(n=60, size=6, channels=1, n_classes=3, seed=0)
    model.fit(ImageSet(data.images, data.labels, names) if names else ImageSet(data.images), training=TrainingConfig())
    return model


@pytest.mark.parametrize(
    ("asked", "classes"),
    [
        ("bag", [1]),
        ("bag bag ankle boot sandal bag", [1, 1, 0, 2, 1]),
        ("ankle boot", [0]),
        ("2 0 bag", [2, 0, 1]),
        (2, [2]),
        (["ankle boot", 1, "2"], [0, 1, 2]),
    ],
)
def test_classes_are_told_by_name_or_index_with_blanks_between_them(
    asked: str | int | list, classes: list[int]
) -> None:
    assert fitted("ankle boot", "bag", "sandal").find_classes(asked).tolist() == classes


def test_a_name_comes_before_an_index() -> None:
    model = fitted("2", "1", "0")
    assert model.find_classes("0 1 2").tolist() == model.find_classes([0, 1, 2]).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("bag boot", "unknown class 'boot'; gmm knows ankle boot, bag, sandal"),
        (3, "unknown class '3'; gmm knows"),
        (-1, "unknown class '-1'; gmm knows"),
        ("  ", "no class was asked for; gmm knows ankle boot, bag, sandal"),
        ([], "no class was asked for"),
    ],
)
def test_what_is_no_class_is_named_with_those_that_are(asked: str | int | list, message: str) -> None:
    with pytest.raises(SimulacraError, match=message):
        fitted("ankle boot", "bag", "sandal").find_classes(asked)


def test_a_model_without_classes_says_so() -> None:
    with pytest.raises(SimulacraError, match="gmm was fitted without classes and cannot sample 'bag'"):
        fitted().find_classes("bag")


@pytest.mark.parametrize("model", [fitted(), fitted("a", "b", "c")], ids=["unlabelled", "labelled"])
def test_a_family_without_captions_refuses_prompts(model: GaussianMixture) -> None:
    with pytest.raises(SimulacraError, match="gmm takes no prompts; ask for a class by its name"):
        model.choose_classes(2, Prompt("a thick seven"), np.random.default_rng(0))

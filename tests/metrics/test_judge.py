import numpy as np
import pytest
import torch
from torch import nn

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.metrics import METRICS
from simulacra.metrics.cache import FeatureCache
from simulacra.metrics.corruptions import CORRUPTIONS
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.judge import CLASSES, ROTATIONS, Judge

DATA = fabricate_images(n=180, size=8, channels=1, n_classes=3, seed=0)
VALIDATION, TEST, TRAIN = (DATA.take(range(start, start + 60)) for start in (0, 60, 120))


class Pixels(nn.Module):
    """A few pixels are the features; how many images went through is counted."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.start, self.seen = start, 0

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return x.flatten(1)[:, self.start : self.start + 6]

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features)


def extractor(name: str, start: int = 20) -> NetworkExtractor:
    return NetworkExtractor(Pixels(start), name=name, channels=1, cache=FeatureCache())


def judge(*extractors: NetworkExtractor) -> Judge:
    return Judge(extractors, VALIDATION, TEST, n_generated=60, neighbours=3, train=TRAIN)


CLOSER = ("vendi", "fd_infinity", "sliced_wasserstein", "authenticity")
SHARES = ("precision", "recall", "density", "coverage")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        (CLASSES, {"fd_classifier", "kid_classifier", "is_classifier", "class_accuracy", *SHARES, *CLOSER}),
        (ROTATIONS, {"fd_classifier", "kid_classifier", *SHARES, *CLOSER}),
        ("inception", {"fid", *(f"{kind}_inception" for kind in ("kid", "is", *SHARES))}),
        ("efficientnet_lite0", {f"{kind}_efficientnet_lite0" for kind in ("fd", "kid", "is", *SHARES)}),
        ("dinov2", {f"{kind}_dinov2" for kind in ("fd", "kid", *SHARES)}),
    ],
)
def test_keys_name_the_extractor_and_fid_is_of_inception_alone(name: str, keys: set[str]) -> None:
    found = judge(extractor(name)).compare(TEST, VALIDATION)
    assert set(found) == keys | {"intensity_distance", "spectral_distance"} <= set(METRICS)


def test_each_extractor_measures_as_it_would_alone_and_stands_in_the_passport() -> None:
    first, second = extractor(CLASSES, 20), extractor("efficientnet_lite0", 40)
    together = judge(first, second).floor([0])
    alone = {**judge(first).floor([0])["metrics"], **judge(second).floor([0])["metrics"]}
    assert together["metrics"] == alone
    assert together["metrics"]["fd_classifier"] != together["metrics"]["fd_efficientnet_lite0"]
    assert together["passport"]["extractors"] == {each.name: each.describe() for each in (first, second)}
    assert together["passport_id"] == judge(first, second).noise([0])["passport_id"]
    assert together["passport_id"] not in {judge(each).floor([0])["passport_id"] for each in (first, second)}


def test_the_reference_goes_through_the_network_once_and_not_once_a_seed_or_metric() -> None:
    only = extractor("efficientnet_lite0")
    judge(only).noise(range(5))
    assert only.network.seen == 60 + 5 * 60
    without = NetworkExtractor(Pixels(20), name="efficientnet_lite0", channels=1)
    judge(without).noise(range(5))
    assert without.network.seen == 3 * 5 * 60


def test_features_are_shared_by_judges_of_one_process() -> None:
    only = extractor("dinov2")
    generated = VALIDATION.take(np.arange(60))
    judge(only).compare(TEST, generated)
    judge(only).compare(TEST, generated)
    assert only.network.seen == 120


def test_copies_are_told_from_new_images() -> None:
    data = fabricate_images(n=900, size=8, channels=1, n_classes=3, seed=1)
    train, validation, test = (data.take(range(start, start + 300)) for start in (0, 300, 600))
    whole = Judge([extractor(CLASSES, 0)], validation, test, n_generated=300, neighbours=3, train=train)
    copies, floor = whole.copies([0, 1]), whole.floor([0, 1])
    assert copies["passport_id"] == floor["passport_id"] and copies["role"] == "train"
    # A few images have a double among six pixels, which is no farther from them than their copy.
    assert copies["metrics"]["memorised"]["value"] == 1 and copies["metrics"]["authenticity"]["value"] < 0.1
    assert floor["metrics"]["memorised"]["value"] < 0.1 and floor["metrics"]["authenticity"]["value"] > 0.2


class CountsClasses:
    """Stands where a trained classifier would: how many classes the generated images are of, and what it was given."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, generated: ImageSet, real: ImageSet, seed: int) -> float:
        assert generated.labels is not None and real.labels is not None
        self.seeds.append(seed)
        return len(np.unique(generated.labels)) / real.n_classes

    def describe(self) -> dict[str, int]:
        return {"steps": 7}


def test_labelled_images_have_an_accuracy_score_and_noise_has_none() -> None:
    counted = CountsClasses()
    whole = Judge([extractor(CLASSES)], VALIDATION, TEST, n_generated=60, neighbours=3, train=TRAIN, score=counted)
    copies, noise = whole.copies([5, 6]), whole.noise([5, 6])
    assert copies["metrics"]["accuracy_score"]["per_seed"] == [1, 1] and counted.seeds == [5, 6]
    assert "accuracy_score" not in noise["metrics"]
    assert copies["passport"]["accuracy_score"] == {"steps": 7}
    assert copies["passport_id"] == noise["passport_id"] != judge(extractor(CLASSES)).noise([5, 6])["passport_id"]


def test_too_few_images_for_a_gaussian_are_said() -> None:
    (caution,) = judge(extractor("dinov2"), Wide()).floor([0])["cautions"]
    assert caution.startswith("FD (classifier) fits Gaussians of 64 dimensions to 60 images")


class Wide(NetworkExtractor):
    """All pixels are features, more than there are images."""

    def __init__(self) -> None:
        super().__init__(Pixels(0), name=CLASSES, channels=1, cache=FeatureCache())

    def features(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return np.full((len(images), 3), 1 / 3)


def test_real_images_made_worse_score_worse_and_the_record_says_so() -> None:
    found = judge(extractor(CLASSES, 0)).responses(0)
    assert found["metric"] == "fd_classifier" and found["n"] == 60
    assert set(found["curves"]) == set(CORRUPTIONS) == set(found["rises"])
    for name, curve in found["curves"].items():
        assert curve[-1][1] > curve[0][1], name
    assert found["rises"]["noise"]

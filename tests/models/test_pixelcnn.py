import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import chisquare
from torch import Tensor

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.models.pixelcnn import PixelCNN, PixelCNNConfig, PixelCNNNetwork
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

HEADS = ("softmax", "logistic_mixture")
SMALL = {"width": 8, "n_layers": 2, "head_width": 16, "components": 4}
DATA = fabricate_images(n=120, size=8, channels=1, n_classes=2, seed=0)


def network(
    head: str, shape: tuple[int, int, int], *, n_classes: int = 0, levels: int = 256, **config: object
) -> PixelCNNNetwork:
    """A network with weights large enough to tell one outcome from another."""
    with seeded(0):
        net = PixelCNNNetwork(PixelCNNConfig.model_validate(SMALL | {"head": head} | config), shape, n_classes, levels)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return net.eval()


def outcomes(levels: int, shape: tuple[int, int, int]) -> Tensor:
    """All images of so many levels, in [-1, 1]."""
    values = torch.linspace(-1, 1, levels).tolist()
    return torch.tensor(list(itertools.product(values, repeat=int(np.prod(shape))))).reshape(-1, *shape)


def probabilities(net: PixelCNNNetwork, x: Tensor, label: int) -> Tensor:
    with torch.inference_mode():
        return net.log_prob(x, torch.full((len(x),), label)).double().sum(dim=(1, 2)).exp()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize(
    ("levels", "shape"), [(2, (1, 2, 2)), (4, (1, 2, 2)), (256, (1, 1, 1)), (2, (3, 2, 1)), (4, (3, 1, 2))]
)
def test_probabilities_of_all_outcomes_sum_to_one(
    head: str, n_classes: int, levels: int, shape: tuple[int, int, int]
) -> None:
    net, x = network(head, shape, n_classes=n_classes, levels=levels), outcomes(levels, shape)
    by_class = torch.stack([probabilities(net, x, label) for label in range(max(1, n_classes))])
    assert by_class.sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert (by_class > 0).all() and by_class.std(dim=1).min() > 1e-5
    assert n_classes == 0 or (by_class[0] - by_class[1]).abs().max() > 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_draws_are_as_frequent_as_their_probability(head: str) -> None:
    shape, n = (2, 1, 2), 40_000
    net, x = network(head, shape, n_classes=2, levels=3), outcomes(3, shape)
    with torch.inference_mode():
        drawn = net.draw(torch.ones(n, dtype=torch.long), Noise(3).uniform(n, net.head.draws, 1, 2), 1.0)
    digits = ((drawn + 1).round().long().flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    expected = probabilities(net, x, 1).numpy() * n
    assert np.isclose(expected.sum(), n)
    assert chisquare(np.bincount(digits, minlength=81), expected * n / expected.sum()).pvalue > 1e-3


def naively(net: PixelCNNNetwork, y: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Images drawn with a full forward pass for every pixel, and the features that each was drawn from."""
    n, (_, height, width) = len(y), net.shape
    x, features = torch.zeros(n, *net.shape), torch.zeros(n, net.config.head_width, height, width)
    for row, column in itertools.product(range(height), range(width)):
        pixel = (slice(None), slice(None), slice(row, row + 1), slice(column, column + 1))
        features[pixel] = net.stack(x, y)[pixel]
        x[pixel] = net.head.draw(features[pixel], uniform[pixel], temperature)
    return x, features


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 5, 6)])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_cached_sampler_is_the_naive_one(
    head: str, shape: tuple[int, int, int], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, y = network(head, shape, n_classes=3), torch.tensor([0, 1, 2, 1])
    uniform = Noise(5).uniform(4, net.head.draws, *shape[1:])
    seen: list[Tensor] = []
    draw = net.head.draw
    with torch.inference_mode():
        expected, features = naively(net, y, uniform, temperature)
        monkeypatch.setattr(net.head, "draw", lambda found, *rest: seen.append(found) or draw(found, *rest))
        cached = net.draw(y, uniform, temperature)
    assert torch.equal(cached, expected) and cached.unique().numel() > 10
    pixels = torch.stack(seen, dim=-1).reshape(features.shape)
    torch.testing.assert_close(pixels, features, atol=1e-5, rtol=1e-5)
    if head == "softmax":
        logits = [net.head.logits(found, expected[:, :0]) for found in (pixels, features)]
        assert (logits[0] - logits[1]).abs().max() < 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_later_channels_depend_on_earlier_ones_of_their_pixel(head: str) -> None:
    net, x = network(head, (3, 4, 4)), outcomes(2, (3, 1, 1))[3:4].expand(1, 3, 4, 4).clone()
    with torch.inference_mode():
        features = net.stack(x, None)
        changed = x.clone()
        changed[:, 0] *= -1
        drawn = [net.head.draw(features, torch.full((1, net.head.draws, 4, 4), 0.4), 1.0)]
        given = net.head.log_prob(changed, features) - net.head.log_prob(x, features)
    assert (given.abs() > 1e-4).any() and drawn[0].shape == (1, 3, 4, 4)


def test_low_temperature_keeps_to_the_likeliest() -> None:
    net, y = network("softmax", (1, 4, 4)), torch.zeros(6, dtype=torch.long)
    with torch.inference_mode():
        images = net.draw(y, Noise(0).uniform(6, 1, 4, 4), 1e-6)
        likeliest = net.head.logits(net.stack(images, y), images[:, :0]).argmax(dim=1)
    assert torch.equal(images, images[:1].expand(6, 1, 4, 4))
    assert torch.equal(images[:, 0], likeliest * (2 / 255) - 1)


def fitted(data: ImageSet = DATA, steps: int = 20, **config: object) -> PixelCNN:
    model = PixelCNN(PixelCNNConfig.model_validate(SMALL | config))
    model.fit(data, training=TrainingConfig(steps=steps, batch_size=32, learning_rate=5e-3), seed=0)
    return model


def chains(n: int, seed: int) -> tuple[ImageSet, NDArray[np.float64]]:
    """Black and white rows that mostly stay as they are (class 0) or mostly alternate (class 1), and their log P."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, n)
    first, turns = rng.integers(0, 2, (n, 8, 1)), rng.random((n, 8, 7)) < np.where(classes, 0.9, 0.1)[:, None, None]
    white = np.concatenate([first, (first + turns.cumsum(2)) % 2], axis=2)
    usual = np.where(classes[:, None, None], turns, ~turns)
    log_p = 8 * np.log(0.5) + np.log(np.where(usual, 0.9, 0.1)).sum(axis=(1, 2))
    return ImageSet((white[:, None] * 255).astype(np.uint8), classes, ("stays", "turns")), log_p


@pytest.mark.parametrize("head", HEADS)
def test_training_comes_near_the_law_that_drew_the_pictures(head: str) -> None:
    train, (test, log_p) = chains(400, seed=0)[0], chains(100, seed=1)
    model = fitted(train, steps=300, head=head)
    given = model.log_likelihoods(test.images, Noise(0))[np.arange(100), test.labels]
    assert -8 * np.log(2) - 56 * np.log(2) < given.mean() < log_p.mean() + 0.5, "no better than the law"
    assert given.mean() == pytest.approx(log_p.mean(), rel=0.15)
    assert (model.classify(test.images) == test.labels).mean() > 0.97
    samples = model.sample(100, condition=1, seed=0).images
    assert (np.diff(samples.astype(int) > 127, axis=3) != 0).mean() == pytest.approx(0.9, abs=0.06)


def test_an_image_is_the_same_however_many_are_drawn() -> None:
    model = fitted(conditional=False)
    few, many = model.sample(3, seed=7), model.sample(130, seed=7)
    assert np.array_equal(few.images, many.images[:3])


def test_the_likelihood_is_exact_discrete_and_of_given_classes_summed_out() -> None:
    model = fitted()
    assert not model.likelihood.bound and not model.likelihood.random and model.likelihood.classes_summed_out
    assert model.likelihood.key == "bits_per_dim" and model.likelihood.dequantisation == "none"
    given = model.log_likelihoods(DATA.images[:20], Noise(0))
    assert np.logaddexp.reduce(given + np.log(model.class_frequencies), axis=1) == pytest.approx(
        model.log_prob(DATA.images[:20])
    )
    assert (given == model.log_likelihoods(DATA.images[:20], Noise(1))).all()


def test_unlabelled_images_are_modelled_without_classes() -> None:
    model = PixelCNN(PixelCNNConfig.model_validate(SMALL))
    model.fit(ImageSet(DATA.images), training=TrainingConfig(steps=3))
    assert model.log_likelihoods(DATA.images[:5], Noise(0)).shape == (5, 1)
    assert model.sample(2, seed=0).labels is None


def test_dilations_that_would_leave_pixels_unseen_are_refused() -> None:
    PixelCNNConfig(first_kernel=7, dilations=(3, 4))
    with pytest.raises(ValidationError, match="a dilation of 4 is more than the 3 pixels"):
        PixelCNNConfig(first_kernel=7, dilations=(4,))

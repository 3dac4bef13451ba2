import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.flow import Dequantiser, FlowConfig, FlowNetwork, NormalizingFlow
from simulacra.nn.flows import initialise
from simulacra.training.batches import Batch, to_float
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

DATA = fabricate_images(n=120, size=8, channels=1, n_classes=2, seed=0)
ARCHITECTURES = ["realnvp", "glow"]
SMALL = {"couplings": 4, "width": 6, "dense_couplings": 2, "dense_width": 6}
MEDIUM = {"couplings": 4, "width": 16, "dense_couplings": 2, "dense_width": 32}
SHAPES = [(1, 2, 2), (1, 1, 2), (1, 3, 3), (3, 3, 3), (2, 4, 2), (1, 4, 4), (1, 1, 1)]


def network(
    shape: tuple[int, int, int], n_classes: int = 0, scale: float = 0.2, first: Tensor | None = None, **config: Any
) -> FlowNetwork:
    """A small network in float64, set by first data where there are any, whose every parameter was moved at random."""
    with seeded(0):
        made = FlowNetwork(FlowConfig.model_validate(SMALL | config), shape, n_classes)
        if first is not None:
            initialise(made.flow, first)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(scale * torch.randn(parameter.shape))
    return made.double()


def grey_levels(n: int, shape: tuple[int, int, int]) -> Tensor:
    return 256 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def fitted(**config: Any) -> NormalizingFlow:
    model = NormalizingFlow(FlowConfig.model_validate(MEDIUM | config))
    model.fit(DATA, training=TrainingConfig(steps=60, learning_rate=3e-3, precision="fp32"), seed=0)
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n_classes", [0, 2])
def test_log_density_follows_from_autograd_s_jacobian(
    architecture: str, shape: tuple[int, int, int], n_classes: int
) -> None:
    net = network(shape, n_classes, architecture=architecture, logit_alpha=0.05)
    grey, y = grey_levels(2, shape), torch.tensor([0, 1])
    log_density = net.log_density(grey, y).detach()
    for row, (one, label) in enumerate(zip(grey.split(1), y.split(1), strict=True)):
        jacobian = torch.autograd.functional.jacobian(lambda v, given=label: net.latents(v, given), one)
        log_det = torch.linalg.slogdet(jacobian.reshape(one.numel(), one.numel())).logabsdet
        prior = torch.distributions.Normal(0, 1).log_prob(net.latents(one, label)).sum()
        assert float(log_density[row]) == pytest.approx(float((prior + log_det).detach()), abs=1e-8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_latent_numbers_lead_back_to_the_grey_levels(architecture: str, shape: tuple[int, int, int]) -> None:
    net = network(shape, 2, architecture=architecture, logit_alpha=0.01)
    grey, y = grey_levels(20, shape), torch.arange(20) % 2
    with torch.no_grad():
        z = net.latents(grey, y)
        assert z.shape == (20, math.prod(shape))
        torch.testing.assert_close(net.flow.inverse(z, net.context(y)), grey, rtol=0, atol=1e-7)


def panels(edges: list[float], nodes: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes and weights between each two neighbouring edges, (panels, nodes) flattened."""
    x, w = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(nodes))
    lower, upper = torch.tensor(edges[:-1]).double()[:, None], torch.tensor(edges[1:]).double()[:, None]
    return ((lower + upper) / 2 + (upper - lower) / 2 * x).flatten(), ((upper - lower) / 2 * w).flatten()


@torch.no_grad()
def masses(net: FlowNetwork, shape: tuple[int, int, int], points: Tensor, weights: Tensor) -> Tensor:
    """The density times the weight at every point of a grid with the same axis in each dimension."""
    n_dims = math.prod(shape)
    rest = torch.cartesian_prod(*[points] * (n_dims - 1)).reshape(-1, n_dims - 1)
    rest_weights = torch.cartesian_prod(*[weights] * (n_dims - 1)).reshape(-1, n_dims - 1).prod(1)
    rows = []
    for first, weight in zip(points, weights, strict=True):
        grey = torch.cat([first.expand(len(rest), 1), rest], dim=1).reshape(-1, *shape)
        rows.append(net.log_density(grey, None).exp() * weight * rest_weights)
    return torch.stack(rows).reshape([len(points)] * n_dims)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("shape", "nodes"), [((1, 1, 2), 40), ((1, 2, 2), 6)], ids=["1x2", "2x2"])
def test_probabilities_of_all_images_of_four_levels_sum_to_one(
    architecture: str, shape: tuple[int, int, int], nodes: int
) -> None:
    """Of 2-bit images, that is: an image's probability is its density's integral over the grey levels that it spans.

    A sample beyond black or white becomes black or white, so the outermost levels own what lies beyond.
    """
    first = 128 + 50 * torch.randn(200, *shape, generator=torch.Generator().manual_seed(0))
    config = {"architecture": architecture, "couplings": 2, "dense_couplings": 0, "logit_alpha": 0.0}
    net = network(shape, scale=0.1, first=first, **config)
    borders = [64.0, 128.0, 192.0]
    edges = sorted([-330.0, -60.0, *borders, 316.0, 586.0])
    points, weights = panels(edges, nodes)
    levels = torch.bucketize(points, torch.tensor(borders).double())
    outcomes = masses(net, shape, points, weights)
    for dim in range(math.prod(shape)):
        sizes = list(outcomes.shape)
        sizes[dim] = 4
        outcomes = torch.zeros(sizes, dtype=torch.float64).index_add_(dim, levels, outcomes)
    assert outcomes.numel() == 4 ** math.prod(shape) and (outcomes > 0).all()
    assert float(outcomes.sum()) == pytest.approx(1, abs=1e-5)
    assert outcomes.max() > 2 * outcomes.mean(), "the density is not merely flat"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
def test_draws_average_to_the_probability_of_the_8_bit_image(architecture: str, dequantisation: str) -> None:
    shape = (1, 1, 2)
    net = network(shape, architecture=architecture, dequantisation=dequantisation, logit_alpha=0.05)
    model = NormalizingFlow(net.config.model_copy(update={"conditional": False}))
    model.shape, model.network = shape, net.float()
    images = np.array([[[[3, 250]]], [[[120, 0]]]], np.uint8)
    draws = np.stack([model.log_likelihoods(images.repeat(5000, axis=0), Noise(0, draw))[:, 0] for draw in range(2)])
    estimates = np.exp(draws).reshape(2, 2, 5000)
    net.double()
    for row, image in enumerate(images):
        u, weights = panels([0.0, 1.0], 12)
        grid = torch.cartesian_prod(u, u)
        with torch.no_grad():
            density = net.log_density(torch.from_numpy(image).double() + grid.reshape(-1, *shape), None).exp()
        expected = float((density * torch.cartesian_prod(weights, weights).prod(1)).sum())
        error = estimates[:, row].std() / np.sqrt(estimates[:, row].size)
        assert estimates[:, row].mean() == pytest.approx(expected, abs=4 * error + 1e-5 * expected)
        assert np.log(estimates[:, row]).mean() < np.log(expected) + 1e-5, "the mean of the logarithms is a bound"


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 3, 1)], ids=str)
def test_density_of_the_dequantiser_follows_from_autograd_s_jacobian(shape: tuple[int, int, int]) -> None:
    net = network(shape, dequantisation="variational").dequantiser
    assert isinstance(net, Dequantiser)
    x = to_float(torch.randint(0, 256, (3, *shape), dtype=torch.uint8)).double()
    normal = torch.randn(3, *shape, dtype=torch.float64)
    u, log_q = net(x, normal)
    assert u.shape == x.shape and (u > 0).all() and (u < 1).all()
    for row, (image, z) in enumerate(zip(x.split(1), normal.split(1), strict=True)):
        jacobian = torch.autograd.functional.jacobian(lambda v, given=image: net(given, v)[0], z)
        log_det = torch.linalg.slogdet(jacobian.reshape(z.numel(), z.numel())).logabsdet
        expected = torch.distributions.Normal(0, 1).log_prob(z).sum() - log_det
        assert float(log_q[row].detach()) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("logit_alpha", [0.0, 0.02])
def test_a_thousand_samples_and_their_inverses_are_finite_and_lead_back(architecture: str, logit_alpha: float) -> None:
    model = fitted(architecture=architecture, logit_alpha=logit_alpha, temperature=1.0)
    samples = model.sample(1000, seed=1)
    z = model.encode(samples)
    assert z.shape == (1000, 64) and z.dtype == np.float32 and np.isfinite(z).all()
    with torch.inference_mode():
        y = torch.from_numpy(samples.labels)
        back = model.network.flow.inverse(torch.from_numpy(z), model.network.context(y))
    grey = torch.from_numpy(samples.images).float() + 0.5
    assert torch.isfinite(back).all() and float((back - grey).abs().max()) / 128 < 1e-4
    assert (model.decode(z, condition=samples.labels).images == samples.images).all()


@pytest.mark.parametrize("config", [{}, {"architecture": "realnvp"}, {"dequantisation": "variational"}], ids=str)
def test_training_raises_the_likelihood(config: dict[str, Any]) -> None:
    model = NormalizingFlow(FlowConfig.model_validate(MEDIUM | config))
    history = model.fit(
        DATA, validation=DATA, training=TrainingConfig(steps=120, learning_rate=3e-3, validate_every=40), seed=0
    )
    curve = history.frame().query("split == 'validation' and name == 'bits_per_dim'")["value"].tolist()
    assert curve[-1] < curve[0] - 0.2
    nats = model.log_likelihoods(DATA.images, Noise(0))[np.arange(len(DATA)), DATA.labels]
    assert -nats.mean() / 64 / np.log(2) == pytest.approx(curve[-1], abs=0.1)


def test_actnorm_begins_where_it_standardises_the_data() -> None:
    model = NormalizingFlow(FlowConfig.model_validate(SMALL))
    model.fit(DATA, training=TrainingConfig(steps=1, learning_rate=1e-12, precision="fp32"), seed=0)
    z = model.encode(DATA)
    # The couplings are still the identity, so that only scales and rotations stand between pixels and latent numbers.
    assert np.abs(z.mean()) < 0.1 and z.std() == pytest.approx(1, abs=0.1)


def test_temperature_narrows_the_samples() -> None:
    model = fitted()
    spread = []
    for temperature in (0.0, 0.5, 1.0):
        model.config = model.config.model_copy(update={"temperature": temperature})
        spread.append(model.sample(200, condition=1, seed=0).images.std(axis=0).mean())
    assert spread[0] == 0 < spread[1] < spread[2]


def test_a_class_is_asked_for_by_its_own_density() -> None:
    """Dark images and bright ones: nothing but the class tells which to sample."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = (np.where(labels == 1, 180, 40)[:, None, None, None] + rng.integers(0, 30, (200, 1, 4, 4))).astype(
        np.uint8
    )
    model = NormalizingFlow(FlowConfig.model_validate(MEDIUM))
    model.fit(
        ImageSet(images, labels, ("dark", "bright")), training=TrainingConfig(steps=200, learning_rate=5e-3), seed=0
    )
    for label, brightness in (("dark", 55), ("bright", 195)):
        drawn = model.sample(100, condition=label, seed=0).images.mean(axis=(1, 2, 3))
        assert (np.abs(drawn - brightness) < 60).mean() > 0.95
    assert (model.classify(images) == labels).mean() > 0.95


def test_codes_of_a_conditional_model_need_labels() -> None:
    model = fitted()
    with pytest.raises(SimulacraError, match="needs the images' labels"):
        model.encode(ImageSet(DATA.images))
    other = fitted(conditional=False)
    assert (other.encode(DATA) == other.encode(ImageSet(DATA.images))).all()


def test_loss_is_the_negative_log_likelihood_a_pixel() -> None:
    net = network((1, 4, 4), 2).eval()
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 2
    with torch.no_grad():
        values = net.loss(Batch(to_float(images).double(), y, 0, Noise(3)))
        grey = images.double() + Noise(3).uniform(6, 1, 4, 4).double()
        expected = -float(net.log_density(grey, y).mean()) / 16
    assert float(values["loss"]) == pytest.approx(expected)
    assert float(values["bits_per_dim"]) == pytest.approx(expected / math.log(2))

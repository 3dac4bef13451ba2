from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from simulacra.nn.adversarial import (
    CLASS_FEATURES,
    DcganFeatures,
    DcganGenerator,
    Discriminator,
    Features,
    Generator,
    MlpFeatures,
    MlpGenerator,
    ResnetFeatures,
    ResnetGenerator,
    Shape,
)
from simulacra.nn.batch_norm import BatchNorm
from simulacra.training.seeding import seeded

BODIES: dict[str, Callable[[int, Shape], nn.Module]] = {
    "mlp": MlpGenerator,
    "dcgan": lambda n, shape: DcganGenerator(n, shape, width=4, levels=2),
    "resnet": lambda n, shape: ResnetGenerator(n, shape, width=4, levels=2),
}
FEATURES: dict[str, Callable[[Shape], Features]] = {
    "mlp": MlpFeatures,
    "dcgan": lambda shape: DcganFeatures(shape, width=4, levels=2),
    "resnet": lambda shape: ResnetFeatures(shape, width=4, levels=2),
}
SHAPE = (3, 9, 12)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (4, 33, 20), (1, 8, 13), (2, 4, 4)], ids=str)
def test_any_size_and_any_channels(name: str, shape: Shape) -> None:
    with seeded(0):
        images = Generator(BODIES[name](6, shape), n_classes=0)(noise(5, 6), None)
        assert images.shape == (5, *shape) and images.abs().max() <= 1
        assert Discriminator(FEATURES[name](shape), 0, spectral=False)(images, None).shape == (5,)


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_any_number_of_levels(name: str, levels: int) -> None:
    generator = {"dcgan": DcganGenerator, "resnet": ResnetGenerator}[name]
    features = {"dcgan": DcganFeatures, "resnet": ResnetFeatures}[name]
    images = generator(6, (1, 28, 20), width=4, levels=levels)(noise(2, 6))
    assert images.shape == (2, 1, 28, 20)
    made = features((1, 28, 20), width=4, levels=levels)
    assert made(images).shape == (2, made.n_features)


def test_the_dense_generator_has_the_layers_it_is_said_to_have() -> None:
    layers = list(MlpGenerator(100, (1, 28, 28)))
    dense = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert dense == [(100, 128), (128, 256), (256, 512), (512, 784)]
    kinds = [type(layer) for layer in layers]
    hidden = [nn.Linear, BatchNorm, nn.LeakyReLU]
    assert kinds == [nn.Linear, nn.LeakyReLU, *hidden, *hidden, nn.Linear, nn.Tanh, nn.Unflatten]
    assert all(layer.negative_slope == 0.2 for layer in layers if isinstance(layer, nn.LeakyReLU))


@pytest.mark.parametrize("name", BODIES)
def test_images_depend_on_noise_and_on_class(name: str) -> None:
    with seeded(0):
        generator = Generator(BODIES[name](6 + CLASS_FEATURES, SHAPE), n_classes=3).eval()
    z, y = noise(4, 6), torch.tensor([0, 1, 2, 0])
    images = generator(z, y)
    assert not torch.equal(images, generator(z, (y + 1) % 3)) and not torch.equal(images, generator(z + 1, y))
    # At first the noise tells more than the class: else a class would become one image.
    by_noise = (images - generator(noise(4, 7)[:, 1:], y)).square().mean()
    assert by_noise > 10 * (images - generator(z, (y + 1) % 3)).square().mean()


@pytest.mark.parametrize("spectral", [False, True], ids=["plain", "spectral"])
@pytest.mark.parametrize("name", FEATURES)
def test_a_score_depends_on_its_own_image_and_class_only(name: str, spectral: bool) -> None:
    with seeded(0):
        net = Discriminator(FEATURES[name](SHAPE), n_classes=3, spectral=spectral).eval()
    x, y = noise(6, *SHAPE), torch.arange(6) % 3
    together = net(x, y)
    alone = torch.cat([net(x[i : i + 1], y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert (net(x, (y + 1) % 3) != together).all()


def test_the_class_projects_on_the_features() -> None:
    with seeded(0):
        net = Discriminator(MlpFeatures(SHAPE), n_classes=3, spectral=False)
    x = noise(5, *SHAPE)
    first, second = torch.zeros(5, dtype=torch.long), torch.full((5,), 2)
    expected = net.features(x) @ (net.classes.weight[2] - net.classes.weight[0])
    torch.testing.assert_close(net(x, second) - net(x, first), expected)


@pytest.mark.parametrize("name", FEATURES)
def test_spectral_normalisation_holds_every_layer_at_one(name: str) -> None:
    with seeded(0):
        net = Discriminator(FEATURES[name](SHAPE), n_classes=3, spectral=True)
        plain = Discriminator(FEATURES[name](SHAPE), n_classes=3, spectral=False)
    x, y = noise(4, *SHAPE), torch.zeros(4, dtype=torch.long)
    for _ in range(30):  # each pass in training mode is one step of the power iteration
        net(x, y)
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    layers = [module for module in net.modules() if isinstance(module, kinds)]
    assert len(layers) == len([module for module in plain.modules() if isinstance(module, kinds)]) >= 4
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)
    assert len(list(net.parameters())) == len(list(plain.parameters())), "only the weights are learnt, as before"


@pytest.mark.parametrize("name", FEATURES)
def test_first_scores_are_neither_saturated_nor_all_alike(name: str) -> None:
    with seeded(0):
        net = Discriminator(FEATURES[name]((1, 28, 28)), n_classes=0, spectral=False)
    scores = net(torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(1)), None)
    assert 0.03 < float(scores.detach().std()) < 30

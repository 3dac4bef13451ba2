import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from simulacra.nn.coupling import Bijection, CheckerboardCouplings, ConvNet, Couplings, Mlp
from simulacra.nn.flows import (
    ActNorm,
    Chain,
    ConditionalAffine,
    InvertibleConv,
    Levels,
    MultiScale,
    Regroup,
    Squeeze,
    VectorFlow,
    initialise,
)
from simulacra.training.seeding import seeded


def shaken(module: nn.Module, scale: float = 0.4, seed: int = 0) -> nn.Module:
    """The module in float64 with random parameters, so that no layer is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module.double()


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conv_net(in_channels: int, out_channels: int) -> ConvNet:
    return ConvNet(in_channels, out_channels, width=5, context=2)


def mlp(in_features: int, out_features: int) -> Mlp:
    return Mlp(in_features, out_features, width=5, context=2)


LAYERS: dict[str, tuple[Callable[[], Bijection], Tensor]] = {
    "actnorm of vectors": (lambda: ActNorm(5), normal(3, 5)),
    "actnorm of images": (lambda: ActNorm(2), normal(3, 2, 3, 2)),
    "convolution": (lambda: InvertibleConv(4), normal(3, 4, 2, 3)),
    "squeeze": (Squeeze, normal(3, 2, 4, 2)),
    "regroup": (Regroup, normal(3, 8, 1, 2)),
    "couplings of vectors": (lambda: Couplings((3, 2), mlp, n=3), normal(3, 5)),
    "couplings of images": (lambda: Couplings((2, 1), conv_net, n=3), normal(3, 3, 2, 3)),
    "unbounded couplings": (lambda: Couplings((2, 1), conv_net, n=2, bound=math.inf), normal(3, 3, 2, 3)),
    "checkerboard": (lambda: CheckerboardCouplings(2, conv_net, n=3), normal(3, 2, 3, 3)),
    "checkerboard of one pixel": (lambda: CheckerboardCouplings(1, conv_net, n=2), normal(3, 1, 1, 1)),
    "prior": (lambda: ConditionalAffine(4, 2), normal(3, 4)),
    "scaled levels": (lambda: Levels(0.0), 128 + 40 * normal(3, 1, 2, 2)),
    "logit of levels": (lambda: Levels(0.05), 128 + 40 * normal(3, 1, 2, 2)),
    "scales": (
        lambda: MultiScale(
            [Chain(Squeeze(), InvertibleConv(4)), Chain(Squeeze(), InvertibleConv(8))], [(4, 2, 2), (8, 1, 1)]
        ),
        normal(3, 1, 4, 4),
    ),
    "flow on vectors": (lambda: VectorFlow(5, couplings=4, width=6, context=2), normal(3, 5)),
}


def made(name: str) -> tuple[Bijection, Tensor]:
    """One of the layers, the same whatever was tried before, and what it is shown."""
    make, x = LAYERS[name]
    with seeded(0):
        layer = make()
    shaken(layer)
    return layer, x


def context_for(x: Tensor) -> Tensor:
    return normal(len(x), 2, *[1] * (x.ndim - 2), seed=2)


@pytest.mark.parametrize("name", LAYERS)
def test_log_determinant_is_that_of_autograd_s_jacobian(name: str) -> None:
    layer, x = made(name)
    context = context_for(x)
    log_det = layer(x, context)[1].detach()
    for row, (one, its_context) in enumerate(zip(x.split(1), context.split(1), strict=True)):
        jacobian = torch.autograd.functional.jacobian(lambda v, given=its_context: layer(v, given)[0], one)
        expected = torch.linalg.slogdet(jacobian.reshape(one.numel(), one.numel())).logabsdet
        assert float(log_det.expand(len(x))[row]) == pytest.approx(float(expected), abs=1e-10), name


@pytest.mark.parametrize("name", LAYERS)
def test_inverse_leads_back(name: str) -> None:
    layer, x = made(name)
    context = context_for(x)
    with torch.no_grad():
        back = layer.inverse(layer(x, context)[0], context)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)


def test_squeeze_makes_a_checkerboard_of_the_channels() -> None:
    rows, columns = torch.arange(4)[:, None], torch.arange(6)
    colours = ((rows + columns) % 2).float().expand(1, 3, 4, 6)
    squeezed, _ = Squeeze()(colours)
    assert (squeezed[:, :6] == 0).all() and (squeezed[:, 6:] == 1).all()
    by_row, _ = Regroup()(Squeeze()(rows.float().expand(1, 3, 4, 6))[0])
    assert (by_row[:, :6] % 2 == 0).all() and (by_row[:, 6:] % 2 == 1).all()


def test_a_coupling_leaves_the_part_that_it_reads() -> None:
    coupling = shaken(Couplings((2, 1), conv_net, n=1))
    x = normal(4, 3, 5, 5)
    z, _ = coupling(x, context_for(x))
    assert torch.equal(z[:, :2], x[:, :2]) and not torch.isclose(z[:, 2], x[:, 2]).any()
    board = shaken(CheckerboardCouplings(3, conv_net, n=1))
    kept = (torch.arange(5)[:, None] + torch.arange(5)) % 2 == 0
    z, _ = board(x, context_for(x))
    assert torch.equal(z[..., kept], x[..., kept]) and not torch.isclose(z[..., ~kept], x[..., ~kept]).any()


def test_log_scales_are_bounded_whatever_the_network_says() -> None:
    coupling = shaken(Couplings((1, 1), mlp, n=1, bound=2.0), scale=100.0)
    _, log_det = coupling(1e6 * normal(100, 2), normal(100, 2))
    assert log_det.abs().max() <= 2 and torch.isfinite(log_det).all() and log_det.abs().max() > 1.99


def test_actnorm_standardises_the_data_it_is_first_shown_at_every_depth() -> None:
    flow = Chain(ActNorm(3), shaken(InvertibleConv(3)).float(), ActNorm(3))
    x = 5 + 3 * normal(50, 3, 4, 4).float()
    initialise(flow, x)
    for depth in (1, 3):
        z, _ = Chain(*list(flow.layers)[:depth])(x)
        assert z.mean((0, 2, 3)).abs().max() < 1e-5 and (z.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    before = flow.layers[0].shift.clone()
    flow(x + 100)
    assert torch.equal(flow.layers[0].shift, before), "only the first data count"


def test_a_1x1_convolution_begins_as_a_rotation_with_as_many_parameters_as_its_matrix_has_entries() -> None:
    conv = InvertibleConv(6).double()
    weight = conv.weight().detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6).double(), rtol=0, atol=1e-6)
    assert sum(parameter.numel() for parameter in conv.parameters()) == 36


def test_a_coupling_agrees_with_zuko_on_copied_weights() -> None:
    zuko_coupling = pytest.importorskip("zuko.flows.coupling")
    mask = torch.tensor([True, True, True, False, False])
    theirs = zuko_coupling.GeneralCouplingTransform(5, context=2, mask=mask, hidden_features=(7, 7)).double()
    # zuko's smallest slope is 1e-3 by default: log scales between -ln 1000 and ln 1000.
    ours = shaken(Couplings((3, 2), lambda i, o: Mlp(i, o, width=7, context=2), n=1, bound=math.log(1000)))
    net, linear = ours.nets[0], [layer for layer in theirs.hyper if hasattr(layer, "weight")]
    with torch.no_grad():
        linear[0].weight.copy_(torch.cat([net.first.weight, net.context.weight], dim=1))
        linear[0].bias.copy_(net.first.bias)
        linear[1].load_state_dict(net.second.state_dict())
        # Its outputs are shift and scale of one number after the other, ours all shifts and then all scales.
        for whole, half in ((linear[2].weight, net.last.weight), (linear[2].bias, net.last.bias)):
            whole[0::2], whole[1::2] = half[:2], half[2:]
    x, context = normal(50, 5), normal(50, 2, seed=3)
    z, log_det = ours(x, context)
    expected_z, expected_log_det = theirs(context).call_and_ladj(x)
    torch.testing.assert_close(z, expected_z, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=1e-12)
    density = torch.distributions.Normal(0, 1).log_prob
    difference = density(z).sum(1) + log_det - density(expected_z).sum(1) - expected_log_det
    assert difference.abs().max() < 1e-5


def test_a_coupling_of_images_agrees_with_normflows_on_copied_weights() -> None:
    normflows = pytest.importorskip("normflows")
    ours = shaken(Couplings((2, 2), lambda i, o: ConvNet(i, o, width=6), n=1, bound=math.inf))
    net = ours.nets[0]
    param_map = normflows.nets.ConvNet2d((2, 6, 6, 4), (3, 1, 3), init_zeros=False).double()
    theirs = normflows.flows.AffineCouplingBlock(param_map, scale_map="exp")
    convolutions = [layer for layer in param_map.net if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        convolutions[0].load_state_dict(net.first.state_dict())
        convolutions[1].load_state_dict(net.second.state_dict())
        for whole, half in ((convolutions[2].weight, net.last.weight), (convolutions[2].bias, net.last.bias)):
            whole[0::2], whole[1::2] = half[:2], half[2:]
    x = normal(20, 4, 5, 5)
    z, log_det = ours(x)
    expected_z, expected_log_det = theirs.forward(x)
    torch.testing.assert_close(z, expected_z, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=1e-10)


def ring(n: int, seed: int) -> Tensor:
    """Points near a circle of radius 3 about (5, 0)."""
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed))
    radius = 3 + 0.2 * normal(n, seed=seed + 1).float()
    return torch.stack([5 + radius * angle.cos(), radius * angle.sin()], dim=1)


def test_a_flow_on_vectors_learns_a_density_that_integrates_to_one() -> None:
    torch.manual_seed(0)
    flow = VectorFlow(2, couplings=6, width=32)
    data = ring(2000, seed=0)
    initialise(flow, data)
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    for _ in range(200):
        loss = -flow.log_prob(data).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        held_out = float(flow.log_prob(ring(2000, seed=5)).mean())
        samples = flow.sample(2000, normal=lambda *shape: normal(*shape).float())
        # Uniform on the circle and normal across it has entropy ln(2π · 3) + ½ ln(2πe · 0.04) = 2.75 nats.
        assert -3.3 < held_out < -2.7
        distance = (samples - torch.tensor([5.0, 0.0])).norm(dim=1)
        assert distance.median() == pytest.approx(3, abs=0.1) and ((distance - 3).abs() < 0.8).float().mean() > 0.9
        axis = torch.linspace(-5, 5, 401, dtype=torch.float64)
        grid = torch.tensor([5.0, 0.0]) + torch.cartesian_prod(axis, axis)
        integral = float(flow.double().log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2)
    assert integral == pytest.approx(1, abs=1e-3)


def test_a_context_moves_the_density() -> None:
    torch.manual_seed(0)
    flow = VectorFlow(2, couplings=2, width=16, context=2)
    classes = torch.eye(2).repeat(300, 1)
    data = normal(600, 2).float() * 0.3 + 4 * classes
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(150):
        loss = -flow.log_prob(data, classes).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for context in torch.eye(2):
        drawn = flow.sample(200, context.expand(200, 2), normal=lambda *shape: normal(*shape).float())
        assert (drawn.mean(0) - 4 * context).abs().max() < 0.3

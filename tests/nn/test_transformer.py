import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simulacra.nn.decoder import Decoder
from simulacra.nn.transformer import FeedForward, Transformer, dropped, rotated, rotations
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

VARIANTS: list[dict[str, Any]] = [
    {},
    {"positions": "rotary", "mlp": "swiglu", "norm": "rms", "qk_norm": True, "bias": False},
    {"positions": "rotary", "norm": "layer", "qk_norm": True, "bias": False},
]


def network(vocabulary: int = 11, context: int = 12, **options: Any) -> Transformer:
    """A small network whose weights were drawn wide, so that everything has an effect."""
    with seeded(0):
        net = Transformer(vocabulary, context=context, width=16, layers=2, heads=2, **options)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
    return net.eval()


def tokens(*shape: int, high: int = 11) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", VARIANTS)
def test_probabilities_of_all_strings_sum_to_one(options: dict[str, Any]) -> None:
    """Of length 4 over 3 symbols, after a token that begins every text."""
    net = network(vocabulary=4, **options)
    strings = torch.tensor(list(itertools.product(range(3), repeat=4)))
    ids = torch.cat([torch.full((len(strings), 1), 3), strings], dim=1)
    with torch.no_grad():
        logits = net(ids[:, :-1])
    logits[..., 3] = -torch.inf  # the beginning stands nowhere else
    each = logits.log_softmax(-1).gather(2, strings[..., None])[..., 0]
    assert each.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_no_token_sees_a_later_one_and_each_sees_all_before(options: dict[str, Any]) -> None:
    net, ids = network(**options), tokens(1, 8)
    x = net.embedding(ids).detach().requires_grad_()
    net.embedding.register_forward_hook(lambda *_: x)
    features = net.features(ids)
    for place in range(8):
        (gradient,) = torch.autograd.grad(features[0, place].square().sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(1) > 0
        assert seen.tolist() == [other <= place for other in range(8)]


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 1, 1, 3), (9,)])
def test_with_the_cache_tokens_are_told_as_without(options: dict[str, Any], cuts: tuple[int, ...]) -> None:
    net, ids, start = network(**options), tokens(3, 9), 0
    cache, parts = net.cache(3, 9), []
    with torch.no_grad():
        for n in cuts:
            parts.append(net(ids[:, start : start + n], cache, start))
            start += n
        torch.testing.assert_close(torch.cat(parts, dim=1), net(ids))
        torch.testing.assert_close(parts[-1][:, -1], net.last(ids))


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 1, 1, 3), (1, 1, 64, 65, 1, 1)])
def test_a_decoder_tells_what_the_network_tells(options: dict[str, Any], cuts: tuple[int, ...]) -> None:
    """In whatever parts it is told a text, and when it begins again."""
    net, told = network(context=200, **options), 0
    ids = tokens(3, sum(cuts))
    decoder = Decoder(net, 3, room=max(7, sum(cuts)))
    decoder.logits(tokens(3, 7))
    decoder.forget()
    for n in cuts:
        found, told = decoder.logits(ids[:, told : told + n]), told + n
        torch.testing.assert_close(found, net(ids[:, :told])[:, -1].detach(), atol=1e-4, rtol=1e-4)


def test_order_matters_to_both_kinds_of_positions() -> None:
    for options in VARIANTS[:2]:
        net = network(**options)
        with torch.no_grad():
            first, second = (net.last(torch.tensor([ids])) for ids in ([1, 2, 3, 4], [2, 1, 3, 4]))
        assert not torch.allclose(first, second, atol=1e-3)


def test_rotations_tell_distances_only() -> None:
    """⟨R_m q, R_n k⟩ depends on n − m alone, and nothing is stretched."""
    turns = rotations(50, 8)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(1))

    def product(m: int, n: int) -> float:
        return float((rotated(q, turns[:, m : m + 1]) * rotated(k, turns[:, n : n + 1])).sum())

    assert product(3, 10) == pytest.approx(product(40, 47), abs=1e-5)
    assert product(3, 10) != pytest.approx(product(3, 11), abs=1e-3)
    assert rotated(q, turns[:, 20:21]).norm().item() == pytest.approx(q.norm().item(), abs=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_bf16_answers_alike(options: dict[str, Any]) -> None:
    net, ids = network(**options), tokens(4, 12)
    with torch.no_grad():
        plain = net(ids)
        with torch.autocast("cpu", torch.bfloat16):
            quick = net(ids)
        assert ((quick - plain).std() / plain.std()).item() < 0.05


def test_dropout_is_decided_by_the_noise_it_is_given() -> None:
    net, ids = network(dropout=0.5), tokens(4, 12)
    with torch.no_grad():
        plain, first, again, other = (net(ids, noise=noise) for noise in (None, Noise(0), Noise(0), Noise(1)))
    assert torch.equal(net.train()(ids), plain) and torch.equal(first, again)
    assert not torch.equal(first, plain) and not torch.equal(first, other)
    x = torch.ones(1000, 100)
    half = dropped(x, 0.5, Noise(0))
    assert half.mean().item() == pytest.approx(1, abs=0.01) and set(half.unique().tolist()) == {0, 2}


def test_a_gate_costs_no_more_than_what_it_replaces() -> None:
    sizes = [sum(p.numel() for p in FeedForward(96, kind=kind).parameters()) for kind in ("gelu", "swiglu")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_it_begins_by_guessing_evenly() -> None:
    with seeded(0):
        net = Transformer(50, context=16, width=32, layers=4, heads=4)
    ids = tokens(8, 17, high=50)
    loss = nn.functional.cross_entropy(net(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(torch.tensor(50.0).log().item(), abs=0.05)

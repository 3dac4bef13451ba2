import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from simulacra.nn.transformer import Transformer
from simulacra.text.sampling import Sampling, draw, looked_back_on, pick, probabilities
from simulacra.training.seeding import seeded

NONE = torch.empty(2, 0, dtype=torch.long)


def network(**options: Any) -> Transformer:
    with seeded(0):
        net = Transformer(7, context=8, width=16, layers=2, heads=2, **options)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return net.eval()


def uniforms(n: int, t: int) -> Tensor:
    return torch.rand(n, t, generator=torch.Generator().manual_seed(0))


def never(text: Tensor) -> bool:
    return False


def uncached(net: Transformer, text: Tensor, numbers: Tensor, sampling: Sampling) -> Tensor:
    """The same by reading everything anew for each token."""
    for number in numbers.T:
        back = looked_back_on(text.shape[1], net.context)
        found = probabilities(net(text[:, text.shape[1] - back :])[:, -1], sampling, text)
        text = torch.cat([text, pick(found, number)], dim=1)
    return text


@torch.no_grad()
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0), Sampling(0.7, 3, 0.8, 1.3)])
@pytest.mark.parametrize("length", [1, 5, 8, 9, 14])
def test_with_the_cache_the_same_tokens_are_drawn_beyond_the_context_too(
    positions: str, sampling: Sampling, length: int
) -> None:
    net = network(positions=positions)
    prompts = torch.randint(7, (3, length), generator=torch.Generator().manual_seed(1))
    numbers = uniforms(3, 25)
    drawn = draw(net, prompts, numbers, sampling, stops=never)
    assert drawn.shape == (3, length + 25) and torch.equal(drawn[:, :length], prompts)
    assert torch.equal(drawn, uncached(net, prompts, numbers, sampling))


@torch.no_grad()
def test_a_row_is_drawn_as_if_it_were_alone() -> None:
    net, prompts, numbers = network(), torch.tensor([[1, 2], [3, 4], [5, 6]]), uniforms(3, 12)
    together = draw(net, prompts, numbers, Sampling(), stops=never)
    for row in range(3):
        alone = draw(net, prompts[row : row + 1], numbers[row : row + 1], Sampling(), stops=never)
        assert torch.equal(alone[0], together[row])


@torch.no_grad()
def test_it_ends_when_told_to() -> None:
    drawn = draw(network(), torch.tensor([[1]]), uniforms(1, 30), Sampling(), stops=lambda text: text.shape[1] == 6)
    assert drawn.shape == (1, 6)


def test_temperature_and_top_k() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0], [3.0, 0.0, 0.0, 3.5]])
    torch.testing.assert_close(probabilities(logits, Sampling(), NONE), logits.softmax(1))
    torch.testing.assert_close(probabilities(logits, Sampling(0.5), NONE), (2 * logits).softmax(1))
    assert probabilities(logits, Sampling(0.0), NONE).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    two = probabilities(logits, Sampling(top_k=2), NONE)
    assert (two > 0).tolist() == [[False, True, True, False], [True, False, False, True]]
    torch.testing.assert_close(two[0, 1] / two[0, 2], torch.tensor(1.0).exp())


def test_top_p_keeps_the_fewest_tokens_that_make_up_the_share() -> None:
    found = torch.tensor([[0.5, 0.05, 0.3, 0.15]])
    for share, kept in ((0.4, {0}), (0.5, {0}), (0.51, {0, 2}), (0.8, {0, 2}), (0.9, {0, 2, 3}), (1.0, {0, 1, 2, 3})):
        left = probabilities(found.log(), Sampling(top_p=share), NONE[:1])[0]
        assert set(left.nonzero().flatten().tolist()) == kept, share
        torch.testing.assert_close(left.sum(), torch.tensor(1.0))


def test_what_was_said_is_less_likely_to_be_said_again() -> None:
    logits, text = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[0, 1, 1]])
    torch.testing.assert_close(
        probabilities(logits, Sampling(repetition_penalty=2), text), torch.tensor([[1.0, -4.0, 1.0]]).softmax(1)
    )


def test_draws_follow_the_probabilities() -> None:
    found = torch.tensor([0.1, 0.0, 0.6, 0.3, 0.0]).expand(20_000, 5)
    drawn = pick(found, torch.rand(20_000, generator=torch.Generator().manual_seed(2)))[:, 0]
    shares = torch.bincount(drawn, minlength=5) / 20_000
    assert (shares - found[0]).abs().max() < 0.01 and shares[1] == shares[4] == 0
    assert pick(found[:2], torch.tensor([0.0, 1 - 2**-24])).flatten().tolist() == [0, 3]


@torch.no_grad()
def test_strings_are_drawn_as_often_as_the_network_says() -> None:
    net, n = network(), 20_000
    start = torch.full((n, 1), 6)
    drawn = draw(net, start, uniforms(n, 2), Sampling(), stops=never)[:, 1:]
    for first, second in itertools.product(range(7), repeat=2):
        ids = torch.tensor([[6, first, second]])
        wanted = net(ids[:, :-1]).log_softmax(-1)[0].gather(1, ids[0, 1:, None]).sum().exp().item()
        share = ((drawn[:, 0] == first) & (drawn[:, 1] == second)).float().mean().item()
        assert share == pytest.approx(wanted, abs=4 * (wanted / n) ** 0.5 + 1e-4)

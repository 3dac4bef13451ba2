from typing import Any

import pytest
import torch

from simulacra.errors import SimulacraError
from simulacra.nn.transformer import Transformer
from simulacra.text.gpt2 import configuration, from_gpt2, to_gpt2
from simulacra.training.seeding import seeded

transformers = pytest.importorskip("transformers", reason="comes with the extra text")


def network(**options: Any) -> Transformer:
    with seeded(0):
        net = Transformer(50, context=16, width=32, layers=3, heads=4, **options)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


@torch.no_grad()
def test_logits_are_those_of_transformers_with_the_same_weights_both_ways() -> None:
    net, ids = network(), torch.randint(50, (4, 16), generator=torch.Generator().manual_seed(0))
    peer = transformers.GPT2LMHeadModel(transformers.GPT2Config(**configuration(net))).eval()
    before = peer(ids).logits
    twin = network()
    from_gpt2(twin, peer.state_dict())
    torch.testing.assert_close(twin(ids), before, atol=1e-4, rtol=0)
    peer.load_state_dict(to_gpt2(net))
    torch.testing.assert_close(peer(ids).logits, net(ids), atol=1e-4, rtol=0)
    assert not torch.allclose(before, net(ids), atol=1e-1)


@pytest.mark.parametrize(
    "options", [{"positions": "rotary"}, {"norm": "rms"}, {"bias": False}, {"mlp": "swiglu"}, {"qk_norm": True}]
)
def test_another_build_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SimulacraError, match="has GPT-2's layout"):
        to_gpt2(network(**options))


def test_too_few_layers_are_named() -> None:
    net = network()
    state = to_gpt2(net)
    del state["transformer.h.2.mlp.c_fc.bias"]
    with pytest.raises(SimulacraError, match=r"no GPT-2 of 3 layers: transformer\.h\.2\.mlp\.c_fc\.bias is missing"):
        from_gpt2(net, state)

"""A transformer's weights as GPT-2 names and lays them out, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from simulacra.errors import SimulacraError
from simulacra.nn.transformer import Transformer

WHOLE = {
    "embedding.weight": "transformer.wte.weight",
    "positions.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
}
LAYERS = {
    "before_attention": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "before_mlp": "ln_2",
    "mlp.first": "mlp.c_fc",
    "mlp.out": "mlp.c_proj",
}


def configuration(network: Transformer) -> dict[str, Any]:
    """Return the arguments of `transformers.GPT2Config` for a network.

    Raises:
        SimulacraError: for a network that is built otherwise than GPT-2.
    """
    own, theirs = set(network.state_dict()), {mine for mine, _ in _names(len(network.blocks))}
    if own != theirs or network.qk_norm or network.mlp != "gelu":
        raise SimulacraError(
            "only a network with positions: learned, norm: layer, mlp: gelu, bias: true and qk_norm: false has GPT-2's "
            "layout"
        )
    vocabulary, width = network.embedding.weight.shape
    return {
        "vocab_size": vocabulary,
        "n_positions": network.context,
        "n_embd": width,
        "n_layer": len(network.blocks),
        "n_head": network.heads,
        "activation_function": "gelu_new",
    }


def to_gpt2(network: Transformer) -> dict[str, Tensor]:
    """Return a network's weights as the state of a `transformers.GPT2LMHeadModel` of the same `configuration`.

    Raises:
        SimulacraError: as `configuration` does.
    """
    configuration(network)
    state = network.state_dict()
    found = {theirs: _turned(mine, state[mine]) for mine, theirs in _names(len(network.blocks))}
    return found | {"lm_head.weight": state["embedding.weight"]}


def from_gpt2(network: Transformer, state: Mapping[str, Tensor]) -> None:
    """Give a network the weights of a `transformers.GPT2LMHeadModel` of the same `configuration`.

    Raises:
        SimulacraError: as `configuration` does, and where a weight is missing.
    """
    configuration(network)
    names = dict(_names(len(network.blocks)))
    missing = sorted(set(names.values()) - set(state))
    if missing:
        raise SimulacraError(f"this is no GPT-2 of {len(network.blocks)} layers: {missing[0]} is missing")
    network.load_state_dict({mine: _turned(mine, state[theirs]) for mine, theirs in names.items()})


def _names(layers: int) -> Iterator[tuple[str, str]]:
    """Yield each weight's name here and in GPT-2."""
    yield from WHOLE.items()
    for layer in range(layers):
        for mine, theirs in LAYERS.items():
            for kind in ("weight", "bias"):
                yield f"blocks.{layer}.{mine}.{kind}", f"transformer.h.{layer}.{theirs}.{kind}"


def _turned(name: str, weight: Tensor) -> Tensor:
    """Return a linear layer's weight the other way round: GPT-2's have inputs first."""
    linear = name.startswith("blocks.") and weight.ndim == 2
    return weight.T.contiguous() if linear else weight

"""One token after another from a transformer, in as few operations as can be."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.nn.transformer import Block, Transformer

Function = Callable[[Tensor], Tensor]


class Decoder:
    """Texts that grow, and the logits of what comes next.

    With one token a text, much of the time goes into calling operations and modules rather than into arithmetic. So
    weights are taken out of the modules here, and nothing is done that one token does not need.

    Args:
        network: in eval mode; its weights may not be replaced while this is in use.
        n: texts side by side.
        room: tokens a text, at most; no more than the network's context.

    Example:
        >>> network = Transformer(5, context=8, width=16, layers=2, heads=2).eval()
        >>> decoder, text = Decoder(network, 1, room=3), torch.tensor([[0, 3, 1]])
        >>> both = [decoder.logits(text[:, :2]), decoder.logits(text[:, 2:])]
        >>> torch.allclose(both[1], network(text)[:, -1], atol=1e-6)
        True
    """

    def __init__(self, network: Transformer, n: int, *, room: int) -> None:
        self.network, self.cache, self.said = network, network.cache(n, room), 0
        self._layers = [_Layer(block) for block in network.blocks if isinstance(block, Block)]
        self._embedding, self._norm = network.embedding.weight, _function(network.norm)

    def forget(self) -> None:
        """Begin again with texts of no token."""
        self.said = 0

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Add tokens (n, t) to the texts, and return the logits of the next one, (n, vocabulary)."""
        start, self.said = self.said, self.said + ids.shape[1]
        if ids.shape[1] > 1:
            return self.network.last(ids, self.cache, start)
        network, cache = self.network, self.cache
        x = F.embedding(ids[:, 0], self._embedding)
        if network.positions is not None:
            x = x + network.positions.weight[start]
        rotation = None if network.rotation is None else network.rotation[:, start : start + 1]
        for layer, keys, values in zip(self._layers, cache.keys, cache.values, strict=True):
            x = layer(x, rotation, keys, values, start)
        return torch.mm(self._norm(x), self._embedding.t())


class _Layer:
    """A block, for one token a text."""

    def __init__(self, block: Block) -> None:
        self.before_attention, self.before_mlp = _function(block.before_attention), _function(block.before_mlp)
        self.qkv, self.out = _function(block.attention.qkv), _function(block.attention.out)
        self.first, self.second = _function(block.mlp.first), _function(block.mlp.out)
        self.between, self.placed = block.mlp.between, block.attention.placed
        self.heads, self.normalised = block.attention.heads, block.attention.qk_norm
        # The product is scaled on its way; what is added to it counts for nothing.
        self.nothing = block.attention.qkv.weight.new_zeros(())

    def __call__(self, x: Tensor, rotation: Tensor | None, keys: Tensor, values: Tensor, start: int) -> Tensor:
        """Map (n, width) to the same shape; key and value of the token are written to their place."""
        dim = keys.shape[2]
        qkv = self.qkv(self.before_attention(x)).view(-1, 3, self.heads, dim)
        q, k, v = qkv.unbind(1)
        if self.normalised or rotation is not None:
            q, k = self.placed(qkv[:, :2], rotation).unbind(1)
        keys[..., start], values[:, :, start] = k, v
        keys, values = keys.flatten(0, 1)[..., : start + 1], values.flatten(0, 1)[:, : start + 1]
        looks = torch.baddbmm(self.nothing, q.reshape(-1, 1, dim), keys, beta=0, alpha=1 / math.sqrt(dim))
        x = x + self.out(torch.bmm(looks.softmax(dim=-1), values).view(x.shape))
        return x + self.second(self.between(self.first(self.before_mlp(x))))


def _function(module: nn.Module) -> Function:
    """Return what a module does, without its attributes being looked up each time."""
    if isinstance(module, nn.Linear):
        turned = module.weight.t()
        return partial(torch.mm, mat2=turned) if module.bias is None else partial(torch.addmm, module.bias, mat2=turned)
    if isinstance(module, nn.LayerNorm):
        shape = list(module.normalized_shape)
        return partial(F.layer_norm, normalized_shape=shape, weight=module.weight, bias=module.bias, eps=module.eps)
    if isinstance(module, nn.RMSNorm):
        shape = list(module.normalized_shape)
        return partial(F.rms_norm, normalized_shape=shape, weight=module.weight, eps=module.eps)
    return module

"""Decoder-only transformer with a key-value cache: Vaswani et al. (2017), Radford et al. (2019)."""

import math
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Positions = Literal["learned", "rotary"]
Mlp = Literal["gelu", "swiglu"]
Norm = Literal["layer", "rms"]


class Cache(NamedTuple):
    """Keys and values of the tokens so far, one tensor a layer.

    Args:
        keys: (n, heads, head_dim, room), which is how one query is quickest compared with all of them.
        values: (n, heads, room, head_dim).
    """

    keys: list[Tensor]
    values: list[Tensor]


class Uniform(Protocol):
    """Where dropout takes its random numbers from, so that a training step is a function of seed and step."""

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1)."""


def dropped(x: Tensor, share: float, noise: Uniform | None) -> Tensor:
    """Return x with a share of its entries set to 0 and the others larger by as much; without noise, x itself.

    Source: Srivastava et al. (2014).
    """
    if noise is None or not share:
        return x
    return x * ((noise.uniform(*x.shape) >= share) / (1 - share)).to(x.dtype)


def rotations(context: int, dim: int, base: float = 10_000.0) -> Tensor:
    """Return the cosine of every position's angle at every coordinate, and its sine with its sign, (2, context, dim).

    Source: Su et al. (2021), arXiv:2104.09864, equation 34.
    """
    frequencies = base ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.arange(context)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)])


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i + dim/2}) of (…, t, dim) by the angles of (2, t, dim)."""
    cos, sin = rotation.to(x.dtype)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


class Attention(nn.Module):
    """Causal self-attention of several heads.

    Args:
        width: coordinates of a token; a multiple of `heads`.
        heads: numbers of looks.
        bias: whether the linear layers have one.
        qk_norm: normalise queries and keys (Dehghani et al. 2023, arXiv:2302.05442), which keeps large rates stable.
        dropout: share of looks and of outputs left out in training.

    Example:
        >>> Attention(8, heads=2)(torch.zeros(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self, width: int, *, heads: int, bias: bool = True, qk_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.qk_norm, self.dropout = heads, qk_norm, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor | None = None,
        cached: tuple[Tensor, Tensor] | None = None,
        start: int = 0,
        noise: Uniform | None = None,
    ) -> Tensor:
        """Map (n, t, width) to the same shape.

        Args:
            x: the tokens.
            rotation: of their positions, see `rotations`, (2, t, head_dim); None where positions are told otherwise.
            cached: keys and values of all positions, laid out as in `Cache`, known before `start`; those of the tokens
                are written there.
            start: position of the first token.
            noise: for dropout; None for none.
        """
        n, t, width = x.shape
        # Contiguous from here on: strided halves and heads cost more than the copy.
        qk, v = self.qkv(x).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).split((2, 1))
        q, k, v = *self.placed(qk.contiguous(), rotation), v[0]
        if cached is not None:
            keys, values = cached
            keys[..., start : start + t], values[:, :, start : start + t] = k.mT, v
            k, v = keys[..., : start + t].mT, values[:, :, : start + t]
        seen = self._look(q, k, v, start, noise)
        return dropped(self.out(seen.transpose(1, 2).reshape(n, t, width)), self.dropout, noise)

    def placed(self, qk: Tensor, rotation: Tensor | None) -> Tensor:
        """Return queries and keys normalised and turned, as wanted."""
        if self.qk_norm:
            qk = F.layer_norm(qk, qk.shape[-1:])
        return qk if rotation is None else rotated(qk, rotation)

    def _look(self, q: Tensor, k: Tensor, v: Tensor, start: int, noise: Uniform | None) -> Tensor:
        """Return the values seen, (n, heads, t, head_dim); no token sees a later one."""
        t = q.shape[2]
        if (q.device.type == "cpu" and q.dtype == torch.bfloat16) or (noise and self.dropout):
            # The fused kernel's backward in bf16 takes eight times as long on a CPU as in fp32.
            q, k, v = (each.flatten(0, 1) for each in (q, k, v))
            ahead = q.new_full((t, k.shape[1]), -torch.inf).triu(start + 1)
            looks = torch.baddbmm(ahead, q, k.mT, alpha=1 / math.sqrt(q.shape[2])).softmax(dim=-1)
            return torch.bmm(dropped(looks.to(v.dtype), self.dropout, noise), v).view(-1, self.heads, t, v.shape[2])
        if start == 0:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        seen = torch.ones(t, k.shape[2], dtype=torch.bool, device=q.device).tril(start)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, or three with a gate (SwiGLU; Shazeer 2020, arXiv:2002.05202).

    Example:
        >>> FeedForward(8, kind="swiglu")(torch.zeros(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, *, kind: Mlp, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        # A gate is a third matrix; two thirds of the size make up for it.
        hidden = 4 * width if kind == "gelu" else -(-8 * width // 3 // 8) * 8
        self.kind, self.dropout = kind, dropout
        self.first = nn.Linear(width, hidden if kind == "gelu" else 2 * hidden, bias=bias)
        self.out = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor, noise: Uniform | None = None) -> Tensor:
        """Map (…, width) to the same shape; without noise nothing is left out."""
        return dropped(self.out(self.between(self.first(x))), self.dropout, noise)

    def between(self, h: Tensor) -> Tensor:
        """Return the hidden features, of which a gate takes half."""
        if self.kind == "gelu":
            return F.gelu(h, approximate="tanh")
        gate, h = h.chunk(2, dim=-1)
        return F.silu(gate) * h


class Block(nn.Module):
    """Attention, then a feed-forward layer, each normalised before and beside the identity (pre-norm)."""

    def __init__(
        self, width: int, *, heads: int, mlp: Mlp, norm: Norm, qk_norm: bool, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = (normalisation(norm, width, bias) for _ in range(2))
        self.attention = Attention(width, heads=heads, bias=bias, qk_norm=qk_norm, dropout=dropout)
        self.mlp = FeedForward(width, kind=mlp, bias=bias, dropout=dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor | None,
        cached: tuple[Tensor, Tensor] | None = None,
        start: int = 0,
        noise: Uniform | None = None,
    ) -> Tensor:
        """Map (n, t, width) to the same shape; see `Attention`."""
        x = x + self.attention(self.before_attention(x), rotation, cached, start, noise)
        return x + self.mlp(self.before_mlp(x), noise)  # type: ignore[no-any-return]


def normalisation(kind: Norm, width: int, bias: bool) -> nn.Module:
    """Return layer normalisation, or RMS normalisation (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    return nn.LayerNorm(width, bias=bias) if kind == "layer" else nn.RMSNorm(width)


class Transformer(nn.Module):
    """Token indices to the logits of each next token; embedding and output share their weights.

    Args:
        vocabulary: number of tokens.
        context: most tokens that are looked back on.
        width: coordinates of a token.
        layers: blocks.
        heads: of the attention; they divide the width.
        positions: learned vectors, or rotations of queries and keys.
        mlp: GELU, or SwiGLU of the same size.
        norm: layer or RMS normalisation.
        qk_norm: normalise queries and keys.
        bias: whether linear layers and layer normalisation have one.
        dropout: share left out in training.

    Example:
        >>> net = Transformer(5, context=8, width=16, layers=2, heads=2, positions="rotary", mlp="swiglu", norm="rms")
        >>> net(torch.tensor([[0, 3, 1]])).shape
        torch.Size([1, 3, 5])
    """

    rotation: Tensor | None

    def __init__(
        self,
        vocabulary: int,
        *,
        context: int,
        width: int,
        layers: int,
        heads: int,
        positions: Positions = "learned",
        mlp: Mlp = "gelu",
        norm: Norm = "layer",
        qk_norm: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.context, self.heads, self.dropout = context, heads, dropout
        self.mlp, self.qk_norm = mlp, qk_norm
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width) if positions == "learned" else None
        rotation = rotations(context, width // heads) if positions == "rotary" else None
        self.register_buffer("rotation", rotation, persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, mlp=mlp, norm=norm, qk_norm=qk_norm, bias=bias, dropout=dropout)
            for _ in range(layers)
        )
        self.norm = normalisation(norm, width, bias)
        self._initialise()

    def _initialise(self) -> None:
        """Draw weights as GPT-2 does: deviation 0.02, and less for layers whose outputs add up."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = math.sqrt(2 * len(self.blocks)) if name.endswith("out.weight") else 1.0
                nn.init.normal_(parameter, std=0.02 / scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor, cache: Cache | None = None, start: int = 0, noise: Uniform | None = None) -> Tensor:
        """Map tokens (n, t) to logits (n, t, vocabulary).

        Args:
            ids: the tokens.
            cache: of the tokens before `start`; these ones are added to it.
            start: position of the first token; start + t may not exceed the context.
            noise: for dropout; None for none.
        """
        return F.linear(self.features(ids, cache, start, noise), self.embedding.weight)

    def last(self, ids: Tensor, cache: Cache | None = None, start: int = 0) -> Tensor:
        """Return the logits of the token after the last one, (n, vocabulary)."""
        return F.linear(self.features(ids, cache, start)[:, -1], self.embedding.weight)

    def features(self, ids: Tensor, cache: Cache | None = None, start: int = 0, noise: Uniform | None = None) -> Tensor:
        """Map tokens (n, t) to what the logits are a linear function of, (n, t, width)."""
        places = slice(start, start + ids.shape[1])
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions.weight[places]
        x = dropped(x, self.dropout, noise)
        rotation = None if self.rotation is None else self.rotation[:, places]
        for number, block in enumerate(self.blocks):
            x = block(x, rotation, cache and (cache.keys[number], cache.values[number]), start, noise)
        return self.norm(x)  # type: ignore[no-any-return]

    def cache(self, n: int, room: int) -> Cache:
        """Return one for n texts of so many tokens at most, whose content is not defined before it is written."""
        weight = self.embedding.weight
        shape, size = (n, self.heads), weight.shape[1] // self.heads
        return Cache(
            [weight.new_empty(*shape, size, room) for _ in self.blocks],
            [weight.new_empty(*shape, room, size) for _ in self.blocks],
        )

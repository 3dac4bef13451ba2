"""Draw tokens from a network's logits: temperature, top-k, top-p, repetition penalty; with a key-value cache."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from simulacra.nn.decoder import Decoder
from simulacra.nn.transformer import Transformer


class Sampling(NamedTuple):
    """How the next token is drawn.

    Args:
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: only so many of the likeliest; 0 for all.
        top_p: only the likeliest that make up this share of the probability (Holtzman et al. 2020, arXiv:1904.09751).
        repetition_penalty: logits of tokens that stand in the text already are divided by it where positive, and
            multiplied where negative (Keskar et al. 2019, arXiv:1909.05858, equation 2); 1 for none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


def probabilities(logits: Tensor, sampling: Sampling, text: Tensor) -> Tensor:
    """Return the probabilities of the next token, (n, vocabulary).

    Args:
        logits: (n, vocabulary).
        sampling: how; of a temperature of 0 all probability is the likeliest token's.
        text: the tokens so far, (n, t), for the penalty.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0, 2.0, -5.0]])
        >>> probabilities(logits, Sampling(top_k=2), torch.empty(1, 0, dtype=torch.long)).round(decimals=3)
        tensor([[0.0000, 0.2690, 0.7310, 0.0000]])
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        seen = logits.gather(1, text)
        penalised = torch.where(seen > 0, seen / sampling.repetition_penalty, seen * sampling.repetition_penalty)
        logits = logits.scatter(1, text, penalised)
    if not sampling.temperature:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    found = logits.softmax(dim=1)
    return _nucleus(found, sampling.top_p) if sampling.top_p < 1 else found


def _nucleus(found: Tensor, share: float) -> Tensor:
    """Return the probabilities without the tail beyond this share; the likeliest token stays whatever the share."""
    ordered, places = found.sort(dim=1, descending=True)
    before = ordered.cumsum(dim=1) - ordered
    kept = torch.zeros_like(found).scatter_(1, places, ordered.masked_fill(before >= share, 0.0))
    return kept / kept.sum(dim=1, keepdim=True)


def pick(found: Tensor, uniform: Tensor) -> Tensor:
    """Return one token a row, (n, 1), by the inverse of the distribution function at a float64 number in [0, 1).

    One number decides a row, so that it does not matter which rows are drawn beside it.
    """
    rising = found.cumsum(dim=1, dtype=torch.float64)
    # Rounding may leave the sum below 1, and the last token may be impossible.
    return torch.searchsorted(rising, uniform[:, None] * rising[:, -1:], right=True)


def draw(
    network: Transformer, prompts: Tensor, uniforms: Tensor, sampling: Sampling, *, stops: Callable[[Tensor], bool]
) -> Tensor:
    """Return prompts gone on with, (n, t + drawn), one token for each column of the uniform numbers at most.

    Keys and values of past tokens are kept, so that a token costs the work of one; they are computed anew whenever the
    context is full, see `looked_back_on`.

    Args:
        network: in eval mode.
        prompts: tokens, (n, t), at least one each; of equal length.
        uniforms: numbers in [0, 1), (n, most tokens), that decide the draws.
        sampling: how.
        stops: told the texts after each token; true ends the drawing.
    """
    n, length = prompts.shape
    room = min(network.context, length + uniforms.shape[1])
    text, decoder = prompts, Decoder(network, n, room=room)
    reach = looked_back_on(length, network.context)
    for uniform in uniforms.double().T.contiguous():
        if decoder.said == network.context:
            reach = network.context // 2
            decoder.forget()
        logits = decoder.logits(text[:, text.shape[1] - (reach - decoder.said) :])
        reach += 1
        text = torch.cat([text, pick(probabilities(logits, sampling, text), uniform)], dim=1)
        if stops(text):
            break
    return text


def looked_back_on(length: int, context: int) -> int:
    """Return how many of a text's last tokens the next one is drawn from.

    All of them while they fit; then half a context, which grows again until it is full.

    Example:
        >>> [looked_back_on(length, 4) for length in range(1, 12)]
        [1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 2]
    """
    if length <= context:
        return length
    half = context // 2
    return half + (length - context - 1) % (context - half + 1)

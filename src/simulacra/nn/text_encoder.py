"""A small text encoder: words to one vector, by one transformer layer (Vaswani et al. 2017, arXiv:1706.03762)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simulacra.nn.attention import SelfAttention


class TextEncoder(nn.Module):
    """A vector for each of the captions there are, read from its words in their order.

    It is called by the captions' indices, as `ClassEmbedding` by the classes', of which the last is the empty caption.

    Args:
        tokens: the numbers of each caption's words, (captions, longest), the empty caption's last; 0 fills up.
        n_words: how many numbers there are.
        dim: coordinates of a vector, a multiple of `heads`.
        heads: of the attention between words.

    Example:
        >>> encoder = TextEncoder(np.array([[1, 2, 3], [1, 3, 0], [0, 0, 0]]), 4, 8)
        >>> encoder(torch.tensor([0, 2, 1])).shape
        torch.Size([3, 8])
    """

    tokens: Tensor

    def __init__(self, tokens: NDArray[np.int64], n_words: int, dim: int, *, heads: int = 4) -> None:
        super().__init__()
        # Known from the classes' names, so it need not be kept with what is learnt.
        self.register_buffer("tokens", torch.from_numpy(tokens), persistent=False)
        self.words = nn.Embedding(n_words, dim)
        self.places = nn.Parameter(torch.empty(tokens.shape[1], dim))
        nn.init.xavier_normal_(self.places)
        self.attention = SelfAttention(dim, heads=heads)
        self.inner = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
        # Without weights, and of each word: what words have in common cannot grow until nothing else is heard, and the
        # class is told as loudly beside other words as alone.
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        # What words do to each other begins as nothing: a class's name is at once what a class's vector would be.
        for parameter in self.inner[3].parameters():
            nn.init.zeros_(parameter)

    def forward(self, captions: Tensor) -> Tensor:
        """Map indices of captions (n,) to vectors (n, dim)."""
        tokens = self.tokens[captions]
        h = self.words(tokens) + self.places
        h = self.attention(h.mT[:, :, None])[:, :, 0].mT
        h = h + self.inner(h)
        said = (tokens > 0)[:, :, None]
        return torch.where(said, self.norm(h), 0).sum(1)

    def null(self, n: int) -> Tensor:
        """Return n indices of the empty caption."""
        return torch.full((n,), len(self.tokens) - 1, device=self.tokens.device)

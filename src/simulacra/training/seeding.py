"""Randomness that begins from a seed and leaves the rest of the program as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block with torch's global generators at `seed`, then put their state back.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     assert torch.rand(1) == first
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

"""Randomness that begins from a seed and leaves the rest of the program as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_one_at_a_time = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block with torch's global generators at `seed`, then put their state back.

    For what takes no generator of its own, such as the initial weights. One thread at a time, since they share it.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     assert torch.rand(1) == first
    """
    with _one_at_a_time, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

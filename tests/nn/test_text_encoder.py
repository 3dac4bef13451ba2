import numpy as np
import pytest
import torch

from simulacra.data.captions import Captions
from simulacra.nn.text_encoder import TextEncoder
from simulacra.training.seeding import seeded


def test_the_order_of_words_and_every_word_count() -> None:
    with seeded(0):
        encoder = TextEncoder(np.array([[1, 2, 3], [1, 3, 2], [1, 2, 0], [0, 0, 0]]), 4, 16)
    found = encoder(torch.arange(4))
    gaps = torch.cdist(found, found) + 9 * torch.eye(4)
    assert found.shape == (4, 16) and gaps.min() > 0.01


def test_every_word_is_as_loud_as_a_vector_of_a_table_and_silence_is_zero() -> None:
    captions = Captions(("seven", "boot"))
    with seeded(0):
        encoder = TextEncoder(*captions.tokens(), 64)
    found = encoder(torch.arange(len(captions) + 1)).detach()
    assert found[:2].square().mean(1).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert found[captions.index(0, (1, 0, 0))].square().mean() == pytest.approx(2, abs=0.7)
    assert (found[-1] == 0).all()


def test_null_is_the_empty_caption_and_the_words_are_not_kept_with_the_weights() -> None:
    captions = Captions(("seven", "ankle boot"))
    encoder = TextEncoder(*captions.tokens(), 8)
    assert encoder.null(3).tolist() == [len(captions)] * 3
    assert "tokens" not in encoder.state_dict()


def test_which_words_a_caption_holds_is_learnt() -> None:
    tokens, n_words = Captions(("zero", "one")).tokens()
    with seeded(0):
        encoder, head = TextEncoder(tokens, n_words, 16), torch.nn.Linear(16, n_words)
    holds = torch.zeros(len(tokens), n_words).scatter_(1, torch.from_numpy(tokens), 1.0)[:, 1:]
    captions = torch.arange(len(tokens))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-2)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            head(encoder(torch.arange(len(tokens))))[:, 1:], holds
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((head(encoder(captions))[:, 1:] > 0) == holds.bool()).float().mean() > 0.99

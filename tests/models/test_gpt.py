import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simulacra.data import text_set
from simulacra.data.text_set import TextSet, texts_of
from simulacra.errors import SimulacraError
from simulacra.models import gpt
from simulacra.models.gpt import GPT, GPTConfig
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise

WORDS = texts_of(["abba cab ", "bacca", "a b c abc", "cabba"] * 10)
SMALL: dict[str, Any] = {"context": 8, "width": 16, "layers": 2, "heads": 2, "tokenizer": "character"}


def fitted(texts: TextSet = WORDS, steps: int = 30, seed: int = 0, **options: Any) -> GPT:
    model = GPT(GPTConfig(**SMALL | options))
    training = TrainingConfig(steps=steps, batch_size=16, learning_rate=0.01, weight_decay=0.1, precision="fp32")
    model.fit(texts, validation=texts, training=training, seed=seed)
    return model


@pytest.mark.parametrize("options", [{}, {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True}])
def test_probabilities_of_all_texts_of_a_length_sum_to_what_is_left_by_shorter_ones(options: dict[str, Any]) -> None:
    """Over 3 symbols: texts of exactly 4, and texts that ended before, are all there is."""
    model = fitted(texts_of(["abc", "cab", "b"] * 20), **options)
    end, total = model.tokenizer.end, 0.0
    for length in range(5):
        for letters in itertools.product(model.encode("abc"), repeat=length):
            ids = [end, *letters] + ([end] if length < 4 else [])
            if len(ids) > 1:
                total += float(np.exp(model.log_probs(np.array([ids])).sum()))
    assert total == pytest.approx(1, abs=1e-5)


def test_it_learns_what_follows_what() -> None:
    model = fitted(texts_of(["abcabcabcabcabcabc"] * 10), steps=120)
    assert model.perplexity(["abcabcabcabc"]).per_token < 1.5
    assert "abcabcabc" in model.sample(1, prompt="abc", tokens=12, seed=0)[0]


def test_same_seed_same_texts_and_each_as_if_alone() -> None:
    model = fitted()
    texts = model.sample(5, tokens=20, seed=1)
    assert texts == model.sample(5, tokens=20, seed=1) and texts != model.sample(5, tokens=20, seed=2)
    assert texts[:1] == model.sample(1, tokens=20, seed=1)


def test_a_text_goes_on_from_its_prompt_until_it_is_stopped() -> None:
    model = fitted()
    for text in model.sample(8, prompt="abba", tokens=30, stop=["b", "cc"], seed=0):
        assert text.startswith("abba") and "b" not in text[4:] and "cc" not in text[4:]
    with pytest.raises(SimulacraError, match="does not know the character 'é'"):
        model.sample(1, prompt="é", tokens=3, seed=0)


@pytest.mark.parametrize("kind", ["character", "byte", "bpe"])
def test_saved_and_loaded_it_says_the_same(kind: str, tmp_path: Path) -> None:
    model = fitted(tokenizer=kind, tokenizer_size=260)
    model.save(tmp_path)
    twin = GPT.load(tmp_path)
    assert twin.fingerprint() == model.fingerprint() and twin.train_sha256 == WORDS.fingerprint()
    assert twin.sample(3, tokens=10, seed=0) == model.sample(3, tokens=10, seed=0)
    assert twin.perplexity(WORDS) == model.perplexity(WORDS)


def test_same_seed_same_fit() -> None:
    assert fitted(seed=1).fingerprint() == fitted(seed=1).fingerprint() != fitted(seed=2).fingerprint()


def test_dropout_and_muon_train() -> None:
    model = GPT(GPTConfig(**SMALL, dropout=0.2))
    training = TrainingConfig(steps=60, batch_size=16, learning_rate=0.01, optimizer="muon")
    history = model.fit(WORDS, validation=WORDS, training=training).frame()
    losses = history[(history.split == "validation") & (history["name"] == "loss")].value
    assert losses.iloc[-1] < np.log(5)


def test_a_validation_in_parts_is_the_loss_of_all() -> None:
    network = fitted().network
    windows = torch.from_numpy(fitted().examples(WORDS).windows(np.arange(gpt.JUDGED_AT_ONCE + 3)))
    batch = Batch(windows, None, 0, Noise(0))
    with torch.no_grad():
        parts = network.loss(batch)["loss"].item()
    assert network.loss(batch)["loss"].item() == pytest.approx(parts, rel=1e-5)


def test_interrupted_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    training = TrainingConfig(
        steps=9, batch_size=8, optimizer="muon", precision="fp32", log_every=1, checkpoint_steps=4
    )
    whole, stopped = GPT(GPTConfig(**SMALL)), GPT(GPTConfig(**SMALL))
    whole.fit(WORDS, training=training)

    def stop(step: int, split: str, values: Any) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.fit(WORDS, training=training, checkpoints=tmp_path, callbacks=[stop])
    stopped.fit(WORDS, training=training, checkpoints=tmp_path)
    assert stopped.fingerprint() == whole.fingerprint()


def test_perplexity_counts_all_bytes_of_all_documents() -> None:
    found = fitted().perplexity(["abba", "cab abc"])
    assert (found.tokens, found.n_bytes, found.characters, found.context, found.stride) == (11, 11, 11, 9, 4)


def test_tokens_of_a_long_document_are_those_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(texts_of(["aé" * 50, "b"]), steps=1)
    whole = model.examples(texts_of(["aé" * 50, "b"])).ids[:].tolist()
    monkeypatch.setattr(text_set, "PART", 7)
    assert model.examples(texts_of(["aé" * 50, "b"])).ids[:].tolist() == whole
    assert whole[0] == whole[101] == model.tokenizer.end and len(whole) == 103


def test_pairs_are_counted_in_some_of_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_of(["ab" * 50, "cd" * 50] * 10)
    monkeypatch.setattr(gpt, "COUNTED", texts.n_bytes)
    model = fitted(texts, steps=1, tokenizer="bpe", tokenizer_size=260)
    assert len(model.encode("abab")) < len(model.encode("cdcd")) == 4


def test_too_little_text_is_refused() -> None:
    with pytest.raises(
        SimulacraError, match=r"5 tokens are too few for a context of 8: .* make model\.context smaller"
    ):
        fitted(texts_of(["abba"]))


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of twice the heads, 6"):
        GPTConfig(width=16, heads=3)


def test_a_fit_that_begins_from_another_keeps_its_tokenizer_where_that_knows_the_texts() -> None:
    former = fitted()
    for texts, kept in ((texts_of(["cab"] * 40), True), (texts_of(["cab and more"] * 40), False)):
        model = GPT(GPTConfig(**SMALL))
        model.begin_from(former)
        history = model.fit(texts, training=TrainingConfig(steps=1, batch_size=4, learning_rate=1e-12))
        assert ("begun_from" in history.facts) == kept
        assert (model.tokenizer.to_json() == former.tokenizer.to_json()) == kept
        if kept:
            ids = model.encode("cab")[None]
            assert np.allclose(model.log_probs(ids), former.log_probs(ids), atol=1e-5)


def test_a_fit_with_another_kind_of_tokens_begins_anew() -> None:
    model = GPT(GPTConfig(**SMALL | {"tokenizer": "byte"}))
    model.begin_from(fitted())
    assert "begun_from" not in model.fit(WORDS, training=TrainingConfig(steps=1, batch_size=4)).facts

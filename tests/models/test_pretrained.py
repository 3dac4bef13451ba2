import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from simulacra.data.text_set import texts_of
from simulacra.errors import SimulacraError
from simulacra.models.pretrained import Pretrained, PretrainedConfig, _converted
from simulacra.training.config import TrainingConfig

TEXTS = texts_of(["the cat sat on the mat. " * 8, "a dog ran after the cat. " * 8] * 3)
SMALL: dict[str, Any] = {"context": 16, "training_context": 8}


@pytest.fixture
def source(tiny_gpt2: Path) -> Path:
    return tiny_gpt2


def fitted(source: Path, steps: int = 5, **options: Any) -> Pretrained:
    model = Pretrained(PretrainedConfig(source=str(source), **SMALL | options))
    training = TrainingConfig(steps=steps, batch_size=4, learning_rate=0.01, precision="fp32")
    model.fit(TEXTS, validation=TEXTS, training=training, seed=0)
    return model


def test_as_it_is_it_foretells_what_the_library_says(source: Path) -> None:
    model = fitted(source, fine_tune="none")
    ids = model.encode("the cat sat")
    peer = GPT2LMHeadModel.from_pretrained(source).eval()
    with torch.inference_mode():
        loss = float(peer(torch.from_numpy(ids)[None], labels=torch.from_numpy(ids)[None]).loss)
    assert -model.log_probs(ids[None]).mean() == pytest.approx(loss, rel=1e-5)
    found = model.perplexity(["the cat sat"])
    assert found.tokens == found.n_bytes == len(ids) - 1 and found.per_token == pytest.approx(np.exp(loss), rel=1e-5)


# Adapters do not reach the embedding, and leave a model of random weights much of its ignorance.
@pytest.mark.parametrize(("how", "less"), [("lora", 0.1), ("full", 0.5)])
def test_fine_tuning_lowers_the_bits_of_such_texts(source: Path, how: str, less: float) -> None:
    before, after = fitted(source, fine_tune="none"), fitted(source, steps=40, fine_tune=how)
    assert after.perplexity(TEXTS).bits_per_byte < before.perplexity(TEXTS).bits_per_byte - less
    moved = {key for key in after.tensors() if "lora_" in key}
    assert (moved == set(after.tensors())) == (how == "lora") and after.fingerprint() != before.fingerprint()


def test_lora_begins_as_the_model_itself_and_moves_few_numbers(source: Path) -> None:
    before, adapted = fitted(source, fine_tune="none"), Pretrained(PretrainedConfig(source=str(source), **SMALL))
    adapted.config = adapted.config.model_copy(update={"fine_tune": "lora", "lora_rank": 1})
    adapted.network = adapted.build()
    ids = before.encode("the cat")[None]
    assert adapted.log_probs(ids) == pytest.approx(before.log_probs(ids))
    assert sum(array.size for array in adapted.tensors().values()) < before.n_parameters() / 5


@pytest.mark.parametrize("how", ["none", "lora", "full"])
def test_saved_and_loaded_it_says_the_same(source: Path, how: str, tmp_path: Path) -> None:
    model = fitted(source, fine_tune=how)
    model.save(tmp_path)
    twin = Pretrained.load(tmp_path)
    assert twin.fingerprint() == model.fingerprint() and twin.train_sha256 == TEXTS.fingerprint()
    assert twin.perplexity(TEXTS) == model.perplexity(TEXTS)
    assert twin.sample(2, prompt="the", tokens=5, seed=1) == model.sample(2, prompt="the", tokens=5, seed=1)


def test_texts_go_on_from_the_prompt_by_the_seed(source: Path) -> None:
    model = fitted(source, fine_tune="none")
    state = torch.get_rng_state()
    texts = model.sample(3, prompt="the cat", tokens=8, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        texts
        == model.sample(3, prompt="the cat", tokens=8, seed=0)
        != model.sample(3, prompt="the cat", tokens=8, seed=1)
    )
    assert len(set(texts)) == 3 and all(text.startswith("the cat") for text in texts)
    likeliest = model.asked({"temperature": 0}).sample(3, prompt="the cat", tokens=8, seed=0)
    assert len(likeliest) == 3 and len(set(likeliest)) == 1
    letter = texts[0][7]
    assert all(letter not in text[7:] for text in model.sample(3, prompt="the cat", tokens=8, stop=[letter], seed=0))
    assert model.sample(0, tokens=3, seed=0) == [] and len(model.sample(2, tokens=3, seed=0)) == 2


def test_interrupted_fine_tuning_ends_as_if_it_had_not_been(source: Path, tmp_path: Path) -> None:
    whole = fitted(source, fine_tune="lora", steps=8)
    half = Pretrained(PretrainedConfig(source=str(source), **SMALL, fine_tune="lora"))
    options = {"batch_size": 4, "learning_rate": 0.01, "precision": "fp32", "steps": 8, "checkpoint_steps": 4}

    class Stop(Exception):
        pass

    def stop(step: int, split: str, values: Any) -> None:
        if step >= 6:
            raise Stop

    with pytest.raises(Stop):
        half.fit(
            TEXTS,
            validation=TEXTS,
            training=TrainingConfig(**options, log_every=1),  # type: ignore[arg-type]
            checkpoints=tmp_path,
            callbacks=[stop],
        )
    half.fit(TEXTS, validation=TEXTS, training=TrainingConfig(**options, log_every=1), checkpoints=tmp_path)  # type: ignore[arg-type]
    for key, value in whole.tensors().items():
        assert np.array_equal(half.tensors()[key], value), key


def write_gguf(path: Path, embedding: np.ndarray) -> None:
    """A llama of one layer, width 32, over bytes and one pair of them."""
    from gguf import GGUFWriter
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, rng, writer = [*letters, "th", "<|end|>"], np.random.default_rng(0), GGUFWriter(path, "llama")
    sizes = {"context_length": 64, "embedding_length": 32, "block_count": 1, "feed_forward_length": 48}
    for key, value in (sizes | {"head_count": 2, "head_count_kv": 2, "vocab_size": len(tokens)}).items():
        getattr(writer, f"add_{key}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["t h"])
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    shapes = {"ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}
    shapes |= {f"attn_{part}": (32, 32) for part in ("q", "k", "v", "output")}
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", rng.normal(size=shape).astype(np.float32))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", embedding.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_is_converted_once_and_anew_when_it_changed(tmp_path: Path) -> None:
    embedding = np.random.default_rng(1).normal(size=(258, 32))
    write_gguf(tmp_path / "model.gguf", embedding)
    before = _converted.cache_info().misses
    model = fitted(tmp_path, gguf_file="model.gguf", fine_tune="none")
    weight = model.network.model.get_input_embeddings().weight
    assert np.allclose(weight, embedding, atol=1e-6) and model.encode("the").tolist()[0] == 256
    assert model.decode(model.encode("the café")) == "the café"
    (tmp_path / "kept").mkdir()
    model.save(tmp_path / "kept")
    assert Pretrained.load(tmp_path / "kept").perplexity(["the cat"]) == model.perplexity(["the cat"])
    assert _converted.cache_info().misses == before + 1
    write_gguf(tmp_path / "model.gguf", embedding + 1)
    with pytest.raises(SimulacraError, match="has other weights than when it was fitted"):
        Pretrained.load(tmp_path / "kept")


def test_a_source_that_changed_is_refused(source: Path, tmp_path: Path) -> None:
    model = fitted(source, fine_tune="lora")
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    facts = json.loads((tmp_path / "model/model.json").read_text())
    other = GPT2LMHeadModel.from_pretrained(source)
    with torch.no_grad():
        other.transformer.ln_f.weight[0] += 1
    shutil.copytree(source, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    facts["config"]["source"] = str(tmp_path / "other")
    (tmp_path / "model/model.json").write_text(json.dumps(facts))
    with pytest.raises(SimulacraError, match="has other weights than when it was fitted"):
        Pretrained.load(tmp_path / "model")


def test_what_cannot_be_had_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder /no/such"):
        PretrainedConfig(source="/no/such")
    with pytest.raises(ValueError, match="no package 'no_such_weights'"):
        PretrainedConfig(source="package:no_such_weights")
    with pytest.raises(ValueError, match=r"no file model\.gguf"):
        PretrainedConfig(source=str(source), gguf_file="model.gguf")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"pytorch_model.bin would be read by pickle"):
        PretrainedConfig(source=str(tmp_path))
    with pytest.raises(ValueError, match="training_context 32 exceeds context 16"):
        PretrainedConfig(source=str(source), context=16, training_context=32)
    with pytest.raises(SimulacraError, match=r"looks back on 64 tokens, and pretrained\.model\.context is 128"):
        Pretrained(PretrainedConfig(source=str(source), context=128, training_context=8)).build()
    with pytest.raises(SimulacraError, match="prompt and new tokens would be 70"):
        fitted(source, fine_tune="none").sample(1, prompt="x" * 10, tokens=60, seed=0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model.safetensors").write_bytes(b"x")
    with pytest.raises(SimulacraError, match="cannot be had: give another"):
        Pretrained(PretrainedConfig(source=str(tmp_path / "broken"))).build()
    with pytest.raises(SimulacraError, match=r"pretrained\.model\.download=true"):
        Pretrained(PretrainedConfig(source="no/such-model", download=False)).build()


def test_a_hub_that_cannot_be_reached_ends_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SimulacraError, match="check name and network"):
        Pretrained(PretrainedConfig(source="no/such-model")).build()


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    model = Pretrained(PretrainedConfig())
    with pytest.raises(SimulacraError, match=r"needs peft, which the extra text brings"):
        model.build()

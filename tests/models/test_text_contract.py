"""What every family of texts must do; a new family is covered by its line in FAMILIES."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from simulacra.data.text_set import texts_of
from simulacra.errors import SimulacraError
from simulacra.experiments import expand, parse_experiments
from simulacra.models import FAMILIES, family_class
from simulacra.models.language import LanguageModel
from simulacra.training.config import TrainingConfig

CONF = Path(__file__).resolve().parents[2] / "conf"
TEXTS = texts_of(["the cat sat on the mat, and the dog beside it. " * 4, "a dog ran after the cat. " * 6] * 3)
BUDGET = TrainingConfig(steps=10, batch_size=4)


@pytest.fixture(scope="module", params=sorted(name for name, family in FAMILIES.items() if "text" in family.kinds))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fitted(family: str, source: Path, seed: int = 0) -> LanguageModel:
    cls = family_class(family)
    changed = yaml.safe_load((CONF / "test/parameters.yml").read_text())[family]["model"]
    base = yaml.safe_load((CONF / f"base/parameters/{family}.yml").read_text())[family]["model"]
    own: dict[str, Any] = {"source": str(source)} if "source" in cls.Config.model_fields else {}
    model = cls(cls.Config.model_validate(base | changed | own))
    model.fit(TEXTS, validation=TEXTS, training=BUDGET, seed=seed)
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="module")
def model(family: str, tiny_gpt2: Path) -> LanguageModel:
    return fitted(family, tiny_gpt2)


def test_one_name_in_four_places(family: str) -> None:
    cls = family_class(family)
    assert cls.name == family and cls.__module__ == f"simulacra.models.{family}"
    parameters = yaml.safe_load((CONF / f"base/parameters/{family}.yml").read_text())
    assert list(parameters) == [family]
    expanded = expand(
        {"seed": 0, "training": {}, **parameters}, parse_experiments({"d": {"kind": "text", "families": [family]}}), {}
    )
    assert expanded["d"][family]["family"] == family


def test_every_hyper_parameter_stands_in_its_file_and_is_described(family: str) -> None:
    cls = family_class(family)
    parameters = yaml.safe_load((CONF / f"base/parameters/{family}.yml").read_text())[family]
    assert set(parameters["model"]) == set(cls.Config.model_fields)
    assert all(field.description for field in cls.Config.model_fields.values())
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        cls.Config.model_validate({"no_such_key": 1})


def test_same_seed_same_fit_and_same_texts(family: str, model: LanguageModel, tiny_gpt2: Path) -> None:
    torch.manual_seed(99)
    again, other = fitted(family, tiny_gpt2), fitted(family, tiny_gpt2, seed=1)
    assert again.fingerprint() == model.fingerprint() != other.fingerprint()
    texts = model.sample(3, tokens=8, seed=2)
    assert texts == again.sample(3, tokens=8, seed=2) != model.sample(3, tokens=8, seed=3)


def test_sampling_does_not_touch_the_global_generators(model: LanguageModel) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    model.sample(2, tokens=4, seed=0)
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def test_texts_begin_with_the_prompt_and_end_before_a_stop(model: LanguageModel) -> None:
    assert all(text.startswith("the cat") for text in model.sample(3, prompt="the cat", tokens=6, seed=0))
    likeliest = model.asked({"temperature": 0}).sample(2, prompt="the", tokens=6, seed=0)
    assert likeliest[0] == likeliest[1]
    assert model.sample(0, tokens=3, seed=0) == []
    free = model.sample(1, prompt="the", tokens=8, seed=0)[0]
    ended = model.sample(1, prompt="the", tokens=8, stop=[free[3]], seed=0)[0]
    assert ended == "the"


def test_what_it_foretells_is_a_distribution(model: LanguageModel) -> None:
    first = model.encode("the cat sat")[:3]
    rows = np.stack([np.append(first, token) for token in range(model.vocabulary)])
    assert np.exp(model.log_probs(rows)[:, -1]).sum() == pytest.approx(1, abs=1e-4)


def test_tokens_come_back_as_the_text(model: LanguageModel) -> None:
    assert model.decode(model.encode("the dog ran, and the cat sat")) == "the dog ran, and the cat sat"


def test_its_perplexity_names_its_conditions(model: LanguageModel) -> None:
    found = model.perplexity(TEXTS)
    assert found.context <= model.context and found.stride == found.context // 2
    assert 1 < found.per_token < 2 * model.vocabulary and 0 < found.bits_per_byte < 12


def test_saved_and_loaded_it_says_the_same(model: LanguageModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    twin = type(model).load(tmp_path)
    assert twin.config == model.config and twin.fingerprint() == model.fingerprint()
    assert twin.sample(2, tokens=5, seed=1) == model.sample(2, tokens=5, seed=1)
    assert twin.perplexity(TEXTS) == model.perplexity(TEXTS)


def test_sampling_options_are_hyper_parameters_that_it_checks(model: LanguageModel) -> None:
    assert {"temperature", "top_k", "top_p", "repetition_penalty"} <= set(model.sampling_options)
    with pytest.raises(SimulacraError, match="temperature is -1"):
        model.asked({"temperature": -1})

"""What every family must do; a new family is covered by its line in FAMILIES."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.experiments import expand, parse_experiments
from simulacra.models import FAMILIES, family_class
from simulacra.models.base import ImageModel
from simulacra.models.density import DensityModel
from simulacra.models.neural import NeuralModel
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise

CONF = Path(__file__).resolve().parents[2] / "conf"
BUDGET = TrainingConfig(steps=15, batch_size=32, ema_decay=0.9)
LABELLED = fabricate_images(n=120, size=8, channels=1, n_classes=3, seed=0)
UNLABELLED = ImageSet(LABELLED.images)
COLOURED = fabricate_images(n=60, size=9, channels=3, n_classes=2, seed=1)


def small(family: str) -> dict[str, Any]:
    """The family's hyper-parameters as conf/test sets them over conf/base."""
    files = [*sorted((CONF / "base/parameters").glob("*.yml")), CONF / "test/parameters.yml"]
    merged: dict[str, Any] = {}
    for file in files:
        for key, value in yaml.safe_load(file.read_text()).items():
            merged[key] = {**merged[key], **value} if isinstance(value, dict) and key in merged else value
    return dict(merged[family]["model"])


def fitted(family: str, data: ImageSet, seed: int = 0) -> ImageModel:
    cls = family_class(family)
    model = cls(cls.Config.model_validate(small(family)))
    model.fit(data, validation=data, training=BUDGET, seed=seed)
    return model


IMAGES = sorted(name for name, family in FAMILIES.items() if "image" in family.kinds)


@pytest.fixture(scope="module", params=IMAGES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(family: str) -> ImageModel:
    return fitted(family, LABELLED)


def test_one_name_in_four_places(family: str) -> None:
    cls = family_class(family)
    assert cls.name == family and cls.__module__ == f"simulacra.models.{family}"
    parameters = yaml.safe_load((CONF / f"base/parameters/{family}.yml").read_text())
    assert list(parameters) == [family]
    expanded = expand(
        {"seed": 0, "training": {}, **parameters}, parse_experiments({"d": {"kind": "image", "families": [family]}}), {}
    )
    assert expanded["d"][family]["family"] == family


def test_every_hyper_parameter_stands_in_its_file_with_its_default_documented(family: str) -> None:
    cls = family_class(family)
    parameters = yaml.safe_load((CONF / f"base/parameters/{family}.yml").read_text())[family]
    assert set(parameters["model"]) == set(cls.Config.model_fields)
    assert all(field.description for field in cls.Config.model_fields.values())


def test_configuration_is_frozen_and_refuses_unknown_keys(family: str) -> None:
    config_class = family_class(family).Config
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        config_class.model_validate({"no_such_key": 1})
    config = config_class()
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, next(iter(config_class.model_fields)), 1)


@pytest.mark.parametrize("data", [LABELLED, UNLABELLED, COLOURED], ids=["labelled", "unlabelled", "coloured"])
def test_samples_have_the_shape_and_classes_of_the_data(family: str, data: ImageSet) -> None:
    model = fitted(family, data)
    samples = model.sample(7, seed=0)
    assert samples.images.shape == (7, *data.shape) and samples.images.dtype == np.uint8
    assert samples.class_names == (data.class_names if model.conditional else ())
    assert model.sample(0, seed=0).images.shape == (0, *data.shape)


def test_same_seed_same_bytes(model: ImageModel) -> None:
    first, second, other = (model.sample(20, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint() == second.fingerprint() != other.fingerprint()


def test_same_seed_same_fit(family: str, model: ImageModel) -> None:
    torch.manual_seed(99)
    again, other = fitted(family, LABELLED, seed=0), fitted(family, LABELLED, seed=1)
    assert again.sample(5, seed=0).fingerprint() == model.sample(5, seed=0).fingerprint()
    # Only what is fitted in closed form may be the same for every seed, and then it is so to the bit.
    assert (other.fingerprint() == model.fingerprint()) <= (not isinstance(model, NeuralModel))
    same_samples = other.sample(5, seed=0).fingerprint() == model.sample(5, seed=0).fingerprint()
    assert same_samples == (other.fingerprint() == model.fingerprint())


def test_sampling_does_not_touch_the_global_generators(model: ImageModel) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    model.sample(3, seed=0)
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def test_samples_by_class(model: ImageModel) -> None:
    if not model.conditional:
        with pytest.raises(SimulacraError, match="without classes"):
            model.sample(2, condition=0, seed=0)
        return
    assert model.sample(4, condition=2, seed=0).labels.tolist() == [2] * 4
    name = LABELLED.class_names[1]
    assert model.sample(2, condition=name, seed=0).labels.tolist() == [1, 1]
    assert model.sample(3, condition=np.array([0, 2, 1]), seed=0).labels.tolist() == [0, 2, 1]
    frequencies = np.bincount(model.sample(3000, seed=0).labels) / 3000
    assert frequencies == pytest.approx(np.bincount(LABELLED.labels) / len(LABELLED), abs=0.05)
    with pytest.raises(SimulacraError, match="unknown class 'zebra'"):
        model.sample(1, condition="zebra", seed=0)
    with pytest.raises(SimulacraError, match="between 0 and 2"):
        model.sample(1, condition=3, seed=0)


def test_saved_and_loaded_is_the_same_model(model: ImageModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = type(model).load(tmp_path)
    assert loaded.config == model.config and loaded.class_names == model.class_names
    assert loaded.sample(10, seed=5).fingerprint() == model.sample(10, seed=5).fingerprint()
    assert loaded.n_parameters() == model.n_parameters() > 0
    for method in ("log_prob", "elbo"):
        if hasattr(model, method):
            assert (getattr(loaded, method)(LABELLED.images) == getattr(model, method)(LABELLED.images)).all()


def test_likelihood_is_finite_one_number_an_image_and_said_in_words(model: ImageModel) -> None:
    methods = [method for method in ("log_prob", "elbo") if hasattr(model, method)]
    assert len(methods) <= 1, "exact or bound, never both under one family"
    assert bool(methods) == bool(model.likelihood)
    for method in methods:
        assert model.likelihood.bound == (method == "elbo")
        nats = getattr(model, method)(LABELLED.images)
        joint = model.joint(LABELLED.images)
        assert joint.shape == (len(LABELLED), 3 if model.conditional else 1)
        assert np.logaddexp.reduce(joint, axis=1) == pytest.approx(nats)
        assert (getattr(model, method)(LABELLED.images, seed=1) != nats).any() == model.likelihood.random
        assert nats.shape == (len(LABELLED),) and np.isfinite(nats).all()
        noise = np.random.default_rng(0).integers(0, 256, LABELLED.images.shape, np.uint8)
        assert nats.mean() > getattr(model, method)(noise).mean()


def test_importance_samples_average_likelihoods_rather_than_their_logarithms(model: ImageModel) -> None:
    if isinstance(model, DensityModel):
        few = LABELLED.images[:9]
        draws = [model.log_likelihoods(few, Noise(4, draw)) for draw in range(3 if model.likelihood.random else 1)]
        prior = np.log(model.class_frequencies) if model.conditional else 0.0
        expected = np.logaddexp.reduce(draws) - np.log(len(draws)) + prior
        assert model.joint(few, seed=4, importance_samples=3) == pytest.approx(expected)


def test_classes_are_told_by_bayes_rule(model: ImageModel) -> None:
    if not isinstance(model, DensityModel):
        return
    if model.conditional:
        posterior = model.joint(LABELLED.images) - model.marginal(LABELLED.images)[:, None]
        assert np.exp(posterior).sum(axis=1) == pytest.approx(1)
        assert (model.classify(LABELLED.images) == posterior.argmax(axis=1)).all()
    else:
        with pytest.raises(SimulacraError, match="without classes"):
            model.classify(LABELLED.images)


def test_the_graph_knows_which_families_have_codes(family: str) -> None:
    cls = family_class(family)
    assert FAMILIES[family].latent == hasattr(cls, "encode") == hasattr(cls, "decode")


def test_codes_decode_to_images(model: ImageModel) -> None:
    if hasattr(model, "encode"):
        codes = model.encode(LABELLED)
        condition = LABELLED.labels if model.conditional else None
        assert model.decode(codes, condition=condition).images.shape == LABELLED.images.shape


def test_the_graph_knows_which_families_can_be_filmed(family: str) -> None:
    films = "film" in inspect.signature(family_class(family).sample).parameters
    assert FAMILIES[family].denoises == films


def test_other_sampling_options_make_another_view_of_the_same_model(model: ImageModel) -> None:
    own = {option: getattr(model.config, field) for option, field in model.sampling_options.items()}
    before = model.sample(6, seed=0).fingerprint()
    twin = model.asked(own)
    assert twin.sample(6, seed=0).fingerprint() == before and twin.fingerprint() == model.fingerprint()
    others = {"temperature": 0.31, "guidance": 3.0, "steps": 3, "sampler": "heun"}
    for option in own.keys() & others.keys():
        assert model.asked({option: others[option]}).sample(6, seed=0).fingerprint() != before, option
        assert model.sample(6, seed=0).fingerprint() == before
    shared = zip(model.tensors().values(), model.asked(own).tensors().values(), strict=True)
    if isinstance(model, NeuralModel):
        assert all(np.shares_memory(mine, its) for mine, its in shared if mine.size)
    with pytest.raises(SimulacraError, match=f"{model.name} has no sampling.magic; it takes n, classes, seed"):
        model.asked({"magic": 1})


def test_curves_are_finite(family: str) -> None:
    cls = family_class(family)
    heard: list[int] = []
    model = cls(cls.Config.model_validate(small(family)))
    history = model.fit(
        LABELLED, validation=LABELLED, training=BUDGET, callbacks=[lambda step, split, values: heard.append(step)]
    )
    frame = history.frame()
    assert len(frame) and np.isfinite(frame["value"]).all() and heard


STANDING = TrainingConfig(steps=1, batch_size=32, learning_rate=1e-12)
"""A training that leaves weights where they were, to all digits that are looked at."""


def test_a_fit_begins_from_another_models_weights_where_the_family_learns_by_gradient(
    model: ImageModel, family: str
) -> None:
    anew, later = (family_class(family)(model.config) for _ in range(2))
    later.begin_from(model)
    history = later.fit(LABELLED, training=STANDING, seed=1)
    if not isinstance(model, NeuralModel):
        anew.fit(LABELLED, training=STANDING, seed=1)
        assert later.fingerprint() == anew.fingerprint() and "begun_from" not in history.facts
        return
    assert history.facts["begun_from"] == model.fingerprint()
    weights = dict(later.network.named_parameters())
    for key, former in model.network.named_parameters():
        torch.testing.assert_close(weights[key], former, rtol=0, atol=1e-6)


def test_a_model_of_another_make_is_not_begun_from(
    model: ImageModel, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    renamed = ImageSet(LABELLED.images, LABELLED.labels, tuple(reversed(LABELLED.class_names)))
    anew, later = (family_class(family)(model.config) for _ in range(2))
    later.begin_from(model)
    histories = [each.fit(renamed, training=STANDING, seed=1) for each in (anew, later)]
    assert anew.fingerprint() == later.fingerprint() and "begun_from" not in histories[1].facts
    assert ("begins anew" in caplog.text) == isinstance(model, NeuralModel)

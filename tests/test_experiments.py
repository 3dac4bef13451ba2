from pathlib import Path

import pytest

from simulacra.errors import SimulacraError
from simulacra.experiments import (
    command_options,
    data_root,
    expand,
    load_experiments,
    parse_experiments,
    with_parameter,
)
from simulacra.models import FAMILIES

EXPERIMENTS = parse_experiments({"a": {"kind": "image", "families": ["vae"]}, "b": {"kind": "image"}})
PARAMETERS = {
    "seed": 0,
    "training": {"steps": 1, "batch_size": 8},
    "generation": {"n": 10},
    "evaluation": {"classifier": {"width": 8, "training": {"steps": 3}}},
    "vae": {"model": {"latent_dim": 2, "width": 4}, "training": {"steps": 2}},
    "b": {"source": {"type": "mnist"}, "generation": {"n": 20}, "vae": {"model": {"latent_dim": 3}}},
}


def test_families_default_to_all_that_model_the_kind() -> None:
    assert EXPERIMENTS["b"].families == tuple(
        sorted(name for name, family in FAMILIES.items() if "image" in family.kinds)
    )
    assert EXPERIMENTS["a"].families == ("vae",)


def test_a_dataset_s_entry_comes_before_the_family_s_file_and_that_before_the_shared_block() -> None:
    expanded = expand(PARAMETERS, EXPERIMENTS, {})
    assert expanded["a"]["vae"]["model"] == {"latent_dim": 2, "width": 4}
    assert expanded["b"]["vae"]["model"] == {"latent_dim": 3, "width": 4}
    assert expanded["b"]["vae"]["training"] == {"steps": 2, "batch_size": 8}
    assert expanded["b"]["gmm"] == {"family": "gmm", "training": {"steps": 1, "batch_size": 8}, "sampling": {}}
    assert (expanded["a"]["generation"], expanded["b"]["generation"]) == ({"n": 10}, {"n": 20})
    assert expanded["a"]["evaluation"]["classifier"]["training"] == {"steps": 3, "batch_size": 8}
    assert expanded["a"]["experiment"] == {"dataset": "a", "kind": "image", "families": ("vae",), "options": ""}
    assert "source" not in expanded["a"] and expanded["b"]["source"] == {"type": "mnist"}


def test_answers_of_raters_lie_with_their_dataset_wherever_else_is_not_named() -> None:
    shared = {"human_results": {"answers": "data/{dataset}/answers"}}
    expanded = expand(PARAMETERS | shared, EXPERIMENTS, {"b": {"human_results": {"answers": "mine.csv"}}})
    assert expanded["a"]["human_results"] == {"answers": "data/a/answers"}
    assert expanded["b"]["human_results"] == {"answers": "mine.csv"}


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"training": {"steps": 7}}, {"a": 7, "b": 7}),
        ({"training": {"steps": 7}, "vae": {"training": {"steps": 8}}}, {"a": 8, "b": 8}),
        ({"vae": {"training": {"steps": 8}}, "b": {"vae": {"training": {"steps": 9}}}}, {"a": 8, "b": 9}),
    ],
)
def test_what_the_command_line_says_comes_before_every_file(said: dict, steps: dict[str, int]) -> None:
    expanded = expand(PARAMETERS, EXPERIMENTS, said)
    assert {name: expanded[name]["vae"]["training"]["steps"] for name in "ab"} == steps


def test_a_classifier_s_own_training_comes_before_training_in_general() -> None:
    said = {"training": {"steps": 5}, "evaluation": {"classifier": {"training": {"steps": 7}}}}
    expanded = expand(PARAMETERS, EXPERIMENTS, said)
    assert expanded["a"]["evaluation"]["classifier"]["training"]["steps"] == 7
    expanded = expand(PARAMETERS, EXPERIMENTS, {"training": {"steps": 5}})
    assert expanded["a"]["evaluation"]["classifier"]["training"]["steps"] == 5


@pytest.mark.parametrize(
    ("said", "seeds"),
    [
        ({"sampling": {"seed": 7}}, {"a": 7, "b": 7}),
        ({"sampling": {"seed": 7}, "b": {"vae": {"sampling": {"seed": 9}}}}, {"a": 7, "b": 9}),
    ],
)
def test_samples_are_asked_of_all_families_or_of_one(said: dict, seeds: dict[str, int]) -> None:
    expanded = expand(PARAMETERS | {"sampling": {"n": 3, "seed": 1}}, EXPERIMENTS, said)
    assert {name: expanded[name]["vae"]["sampling"] for name in "ab"} == {
        name: {"n": 3, "seed": seed} for name, seed in seeds.items()
    }


def test_one_more_parameter_joins_those_that_a_command_has() -> None:
    assert with_parameter("", "a=7 3") == " --params 'a=7 3'"
    assert with_parameter(" --env test", "a=1") == " --env test --params a=1"
    assert with_parameter(" --params seed=1 --env test", "a=1") == " --params seed=1,a=1 --env test"


def test_expansion_leaves_its_input_alone_and_shares_nothing() -> None:
    expanded = expand(PARAMETERS, EXPERIMENTS, {})
    expanded["a"]["vae"]["model"]["latent_dim"] = 99
    assert PARAMETERS["vae"]["model"]["latent_dim"] == 2
    assert expand(PARAMETERS, EXPERIMENTS, {})["a"]["vae"]["model"]["latent_dim"] == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"generatoin": {}}, "unknown parameter 'generatoin'; did you mean 'generation'"),
        ({"b": {"sorce": {}}}, "unknown parameter 'b.sorce'; did you mean 'b.source'"),
        ({"vae": 3}, "the parameter vae must be a block of keys, got 3"),
        ({"b": {"vae": 3}}, "the parameter b.vae must be a block of keys, got 3"),
        ({"training": "fast"}, "the parameter training must be a block of keys, got 'fast'"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"sampling": {"guidance": 3}}, "not every family has sampling.guidance; say it of one that has"),
        ({"sampling": 3}, "the parameter sampling must be a block of keys, got 3"),
        ({"vae": {"sampling": 3}}, "the parameter vae.sampling must be a block of keys, got 3"),
        ({"vea": {}}, "unknown parameter 'vea'; did you mean 'vae'"),
        ({"force": "yes"}, "the parameter force must be true or false, got 'yes'"),
        ({"force": 1}, "the parameter force must be true or false, got 1"),
    ],
)
def test_unknown_parameters_are_named_with_the_nearest_known(extra: dict, message: str) -> None:
    with pytest.raises(SimulacraError, match=message):
        expand(PARAMETERS | extra, EXPERIMENTS, {})


def test_force_is_off_unless_it_is_said_and_no_part_of_a_command_to_repeat() -> None:
    assert expand(PARAMETERS, EXPERIMENTS, {})["force"] is False
    expanded = expand(PARAMETERS | {"force": True}, EXPERIMENTS, {"force": True, "seed": 0})
    assert expanded["force"] is True and expanded["a"]["experiment"]["options"] == " --params seed=0"
    assert command_options({"force": True}, None) == ""


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "names no dataset"),
        ({"a": {"kind": "smell"}}, "a.kind is 'smell'; there is image"),
        ({"a": {"kind": "image", "families": ["vea"]}}, "'vea'; did you mean 'vae'"),
        ({"a": {"kind": "image", "familis": []}}, "needs the keys kind and families"),
        ({"a": {"kind": "image", "families": "gmm"}}, "a.families must be all or a list such as"),
        ({"a": {"kind": "image", "families": None}}, "a.families must be all or a list such as"),
        ({"a": ["image"]}, "needs the keys kind and families"),
        ({"train": {"kind": "image"}}, "'train' cannot name a dataset"),
        ({"force": {"kind": "image"}}, "'force' cannot name a dataset"),
        ({"vae": {"kind": "image"}}, "'vae' cannot name a dataset"),
        ({"../a": {"kind": "image"}}, "cannot name a dataset"),
        ({"a.b": {"kind": "image"}}, "cannot name a dataset"),
    ],
)
def test_bad_experiments_are_refused(raw: dict, message: str) -> None:
    with pytest.raises(SimulacraError, match=message):
        parse_experiments(raw)


def test_the_project_s_own_experiments_begin_with_the_embedded_dataset() -> None:
    assert next(iter(load_experiments())) == "mnist"


@pytest.mark.parametrize("named", [{}, {"data_root": ""}, {"data_root": "~/data"}])
def test_a_data_root_that_names_no_folder_is_refused(named: dict) -> None:
    with pytest.raises(SimulacraError, match=r"globals.yml: data_root must be the path of a folder"):
        data_root({"globals": named}, Path("/project"))


def test_a_relative_data_root_lies_in_the_project() -> None:
    assert data_root({"globals": {"data_root": "data/x"}}, Path("/project")) == Path("/project/data/x")
    assert data_root({"globals": {"data_root": "/elsewhere"}}, Path("/project")) == Path("/elsewhere")

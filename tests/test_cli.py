import errno
from itertools import pairwise

import pytest
from kedro.io import DatasetError
from kedro.validation.exceptions import ModelInstantiationError, ParameterValidationError
from kedro.validation.model_factory import instantiate_model
from pydantic import BaseModel

from simulacra.cli import choose, mistake, select
from simulacra.data.config import SplitConfig
from simulacra.errors import SimulacraError
from simulacra.pipelines.config import FamilyConfig, SourceConfig

NOTHING = {"pipeline": "", "pipelines": [], "namespaces": []}


def chosen(**said: object) -> tuple[list[str], list[str]]:
    options = choose({**NOTHING, **said})
    assert options["pipeline"] == ""
    return options["pipelines"], options["namespaces"]


def test_nothing_said_is_kedro_s_default() -> None:
    assert chosen() == ([], [])


def test_a_stage_covers_the_default_dataset() -> None:
    assert chosen(pipeline="train_vae") == (["train_vae"], ["mnist"])
    assert chosen(pipelines=["evaluate", "report"]) == (["evaluate", "report"], ["mnist"])


def test_namespaces_name_another_dataset_or_one_family() -> None:
    assert chosen(pipeline="train", namespaces=["fashion_mnist"]) == (["train"], ["fashion_mnist"])
    assert chosen(namespaces=["fashion_mnist.vae"]) == (["fashion_mnist"], ["fashion_mnist.vae"])
    assert chosen(namespaces=["mnist.vae", "image_folder"]) == (
        ["image_folder", "mnist"],
        ["mnist.vae", "image_folder"],
    )


def test_a_dataset_s_pipeline_is_whole() -> None:
    assert chosen(pipeline="fashion_mnist") == (["fashion_mnist"], [])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"pipeline": "trian"}, "unknown pipeline 'trian'; did you mean 'train'"),
        ({"pipeline": "train_vea"}, "unknown pipeline 'train_vea'; did you mean 'train_vae'"),
        ({"namespaces": ["mnits"]}, "unknown namespace 'mnits'; did you mean 'mnist'"),
        ({"namespaces": ["mnist.vea"]}, "unknown namespace 'mnist.vea'; did you mean 'mnist.vae'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(said: dict, message: str) -> None:
    with pytest.raises(SimulacraError, match=message):
        chosen(**said)


def test_a_mistake_is_found_behind_other_errors() -> None:
    try:
        try:
            raise SimulacraError("the file x is empty")
        except SimulacraError as error:
            raise RuntimeError("node failed") from error
    except RuntimeError as error:
        assert mistake(error) == "the file x is empty"


def chain(*errors: Exception) -> Exception:
    """Each error raised from the next."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_of_several_kinds_in_a_chain_the_plainest_is_told() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/data/model")
    wrapped = DatasetError("Failed while saving data")
    assert mistake(chain(wrapped, full)) == "/data/model cannot be written: No space left on device"
    assert mistake(chain(RuntimeError(), wrapped, full)) == "/data/model cannot be written: No space left on device"
    assert mistake(chain(wrapped, SimulacraError("the disk has 3 MiB"), full)) == "the disk has 3 MiB"
    assert mistake(chain(wrapped, full, SimulacraError("the disk has 3 MiB"))) == "the disk has 3 MiB"
    unreadable = DatasetError("Failed while loading data")
    assert mistake(chain(unreadable, ValueError("not a table"))).startswith("Failed while loading data\nRun the stage")
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/model")
    assert mistake(missing) is None


def report_of(*classes: tuple[type[BaseModel], dict]) -> str:
    """What Kedro says about raw parameters that do not fit."""
    errors = []
    for number, (cls, raw) in enumerate(classes):
        try:
            instantiate_model(f"mnist.p{number}", raw, cls)
        except ModelInstantiationError as error:
            errors.append(f"- Parameter 'mnist.p{number}': {error}")
    return "Parameter validation failed:\n" + "\n".join(errors)


def test_bad_parameters_are_one_line_each() -> None:
    report = report_of(
        (FamilyConfig, {"family": "vae", "model": {"latent_dims": 3, "beta": -1}, "training": {"steps": "many"}}),
        (SplitConfig, {"train": 0.9, "validation": 0.2, "test": 0.2}),
        (SourceConfig, {"type": "nmist"}),
    )
    lines = mistake(ParameterValidationError(report)).splitlines()
    assert "mnist.p0.model.latent_dims: unknown parameter (got 3)" in lines
    assert "mnist.p0.model.beta: Input should be greater than or equal to 0 (got -1)" in lines
    assert any(line.startswith("mnist.p0.training.steps: Input should be a valid integer") for line in lines)
    assert any(line.startswith("mnist.p1: train + validation + test must be 1, got 1.3") for line in lines)
    assert any(line.startswith("mnist.p2: Input tag 'nmist' found using 'type' does not match") for line in lines)
    assert len(lines) == 5


def test_bugs_stay_bugs() -> None:
    assert mistake(ZeroDivisionError()) is None


def test_worker_processes_that_know_no_hooks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDRO_MP_CONTEXT", "spawn")
    with pytest.raises(SimulacraError, match="started by spawn know no hooks of Kedro; use ThreadRunner"):
        select(NOTHING | {"runner": "ParallelRunner"})

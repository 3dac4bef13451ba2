import pytest
from kedro.validation.exceptions import ParameterValidationError

from simulacra.cli import choose, mistake
from simulacra.errors import SimulacraError

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


def test_parameter_errors_lose_their_links_and_bugs_stay_bugs() -> None:
    error = ParameterValidationError("bad\n    For further information visit https://errors.example/x\nend")
    assert mistake(error) == "bad\nend"
    assert mistake(ZeroDivisionError()) is None

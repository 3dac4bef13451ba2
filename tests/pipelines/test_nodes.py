import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from simulacra.augmentation import protocol
from simulacra.augmentation.config import AugmentationConfig, ClassifierConfig
from simulacra.data.config import SplitConfig
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.data.split import stratified_split
from simulacra.editing.config import EditingConfig
from simulacra.errors import SimulacraError
from simulacra.exploration.config import ExplorationConfig
from simulacra.exploration.panels import unpack
from simulacra.human.config import ColumnsConfig, ResultsConfig, StudyConfig
from simulacra.human.study import REAL
from simulacra.models.diffusion import Diffusion, DiffusionConfig
from simulacra.models.gmm import GaussianMixture, GMMConfig
from simulacra.models.vae import VAE, VAEConfig
from simulacra.nn.efficientnet import EfficientNetLite0
from simulacra.pipelines.augment.nodes import train_on_real, try_augmentation
from simulacra.pipelines.config import EvaluationConfig, FamilyConfig, GenerationConfig, GuestsConfig, SamplingConfig
from simulacra.pipelines.edit.nodes import FIGURES as EDITS
from simulacra.pipelines.edit.nodes import about, command, draw_edits, edit, read_pictures
from simulacra.pipelines.evaluate.nodes import (
    evaluate,
    evaluate_baselines,
    find_neighbours,
    judge_guests,
    plot_prompts,
    train_extractor,
    try_evaluator,
    try_prompts,
)
from simulacra.pipelines.explore.nodes import FIGURES, draw_panels, explore, map_latents
from simulacra.pipelines.generate.nodes import draw, draw_filmed, generate, plot_drawn, plot_film
from simulacra.pipelines.human_results.nodes import hear_raters, plot_judgement, take_judgement
from simulacra.pipelines.human_study.nodes import make_study
from simulacra.pipelines.preprocess.nodes import split
from simulacra.pipelines.report.nodes import make_image_leaderboard, summarise_family, write_report
from simulacra.pipelines.train.nodes import fit
from simulacra.report.leaderboard import leaderboard
from simulacra.report.sentences import prompt_sentences
from simulacra.retraining.former import Former
from simulacra.state import STATE
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History

CLASSIFIER = ClassifierConfig(width=4, training=TrainingConfig(steps=10, batch_size=32))
EVALUATION = EvaluationConfig(classifier=CLASSIFIER)
GENERATION = GenerationConfig(n=60, n_seeds=2)
AUGMENTATION = AugmentationConfig(images_per_class=5, synthetic_per_class=10, classifier=CLASSIFIER)
GMM = FamilyConfig(family="gmm", model={"pca_dim": 4, "components": [1]})
SPLIT = stratified_split(fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=0), SplitConfig())
TRAIN, VALIDATION, TEST = SPLIT.train, SPLIT.validation, SPLIT.test
JUDGED = (TRAIN, VALIDATION, TEST, GENERATION, EVALUATION)


def trained(model: GaussianMixture) -> dict[str, Any]:
    """The training record of a model that was fitted to the training split."""
    return {"train_sha256": TRAIN.fingerprint(), "model_sha256": model.fingerprint()}


@pytest.fixture(scope="module")
def extractor() -> tuple[Any, dict[str, Any]]:
    return train_extractor(TRAIN, VALIDATION, TEST, EVALUATION, 0)


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    model = GaussianMixture(GMMConfig(pca_dim=4, components=(1,)))
    model.fit(TRAIN, training=TrainingConfig())
    return model


def test_the_extractor_does_not_depend_on_the_test_split(extractor: tuple[Any, dict[str, Any]]) -> None:
    other, _ = train_extractor(
        TRAIN, VALIDATION, fabricate_images(n=50, size=10, channels=1, n_classes=3, seed=9), EVALUATION, 0
    )
    weights = extractor[0].state_dict()
    assert all(torch.equal(weights[key], value) for key, value in other.state_dict().items())


def test_no_test_row_reaches_a_downstream_classifier_or_its_generator(
    monkeypatch: pytest.MonkeyPatch, model: GaussianMixture
) -> None:
    seen: list[ImageSet] = []

    def spy_on(module: Any, name: str) -> None:
        original = getattr(module, name)

        def spied(*arguments: Any, **options: Any) -> Any:
            seen.append(next(value for value in arguments if isinstance(value, ImageSet)))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, spied)

    spy_on(protocol, "fit_classifier")
    spy_on(GaussianMixture, "fit")
    baseline = train_on_real(TRAIN, TEST, AUGMENTATION, 0)
    verdict = try_augmentation(TRAIN, TEST, baseline, model, GMM, AUGMENTATION)
    assert len(seen) == 5 + 1 + 5 + 5  # scarce sets, all of it, refitted generators, mixed sets
    test_rows = {image.tobytes() for image in TEST.images}
    assert not any(image.tobytes() in test_rows for data in seen for image in data.images)
    assert verdict["family"] == "gmm" and verdict["generator_data"] == "scarce"
    # A generator of the trial saw the five real images a class of its pair, not the training split.
    generators = [data for data in seen if len(data) == 15]
    assert len(generators) == 10


def test_a_generator_of_the_whole_training_split_is_not_refitted(
    monkeypatch: pytest.MonkeyPatch, model: GaussianMixture
) -> None:
    monkeypatch.setattr(GaussianMixture, "fit", lambda *_, **__: pytest.fail("was refitted"))
    whole = AUGMENTATION.model_copy(update={"generator_data": "train"})
    verdict = try_augmentation(TRAIN, TEST, train_on_real(TRAIN, TEST, whole, 0), model, GMM, whole)
    assert verdict["generator_data"] == "train" and len(verdict["per_seed"]) == 5


def test_floor_and_noise_share_the_families_passport(
    extractor: tuple[Any, dict[str, Any]], model: GaussianMixture
) -> None:
    floor, copies, noise = evaluate_baselines(*extractor, *JUDGED, 0)
    samples, record, cost = generate(model, GENERATION, 0)
    family = evaluate(model, samples, record, trained(model), SPLIT.record(), *extractor, *JUDGED)
    assert floor["passport_id"] == copies["passport_id"] == noise["passport_id"] == family["passport_id"]
    assert copies["metrics"]["authenticity"]["value"] == 0 < family["metrics"]["authenticity"]["value"]
    (caution,) = floor["cautions"]
    assert caution.startswith("FD (classifier) fits Gaussians of 64 dimensions to 60 images, too few for them")
    assert floor["passport"]["n_real"] == floor["passport"]["n_generated"] == 60
    assert floor["metrics"]["fd_classifier"]["value"] < noise["metrics"]["fd_classifier"]["value"]
    assert len(family["metrics"]["fd_classifier"]["per_seed"]) == 2 and cost["sample_ms"] > 0
    assert "bits_per_dim" in family["metrics"] and "elbo_bits_per_dim" not in family["metrics"]
    assert family["passport"]["reference_sha256"] == TEST.take(range(60)).fingerprint()


def test_another_extractor_measures_beside_the_classifier_and_its_features_are_kept(
    extractor: tuple[Any, dict[str, Any]], model: GaussianMixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE, str(tmp_path))
    few = GENERATION.model_copy(update={"n": 20, "n_seeds": 1})
    both = EvaluationConfig(classifier=CLASSIFIER, extractors=["classifier", "efficientnet_lite0"])
    floor, _, noise = evaluate_baselines(*extractor, TRAIN, VALIDATION, TEST, few, both, 0)
    samples, record, _ = generate(model, few, 0)
    judged = (model, samples, record, trained(model), SPLIT.record(), *extractor, TRAIN, VALIDATION, TEST, few, both)
    family = evaluate(*judged)
    assert floor["passport_id"] == noise["passport_id"] == family["passport_id"]
    assert list(family["passport"]["extractors"]) == ["classifier", "efficientnet_lite0"]
    fd = "fd_efficientnet_lite0"
    assert floor["metrics"][fd]["value"] < family["metrics"][fd]["value"] < noise["metrics"][fd]["value"]
    assert "fid" not in family["metrics"] and "recall_efficientnet_lite0" in family["metrics"]
    # Two halves, the reference, training images, noise and samples; the second node's reference was the first one's.
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 6
    assert "1,280 dimensions to 20 images" in family["cautions"][0]
    monkeypatch.setattr(EfficientNetLite0, "features", lambda *_: pytest.fail("ran again"))
    assert evaluate(*judged) == family


def test_the_evaluator_is_tried_on_real_images_made_worse(extractor: tuple[Any, dict[str, Any]]) -> None:
    found = try_evaluator(*extractor, *JUDGED, 0)
    assert found["metric"] == "fd_classifier"
    assert all(curve[-1][1] > curve[0][1] for curve in found["curves"].values())


def test_images_of_another_program_stand_in_the_leaderboard_under_their_own_passport(
    extractor: tuple[Any, dict[str, Any]], model: GaussianMixture, tmp_path: Path
) -> None:
    np.savez(tmp_path / "theirs.npz", model.sample(120, seed=9).images)
    np.savez(tmp_path / "few.npz", model.sample(90, seed=9).images)
    (tmp_path / "none").mkdir()
    judged = (*extractor, *JUDGED, 0)
    assert judge_guests(GuestsConfig({}), *judged) == []
    guests = GuestsConfig({"theirs": tmp_path / "theirs.npz", "few": tmp_path / "few.npz"})
    theirs, few = judge_guests(guests, *judged)
    floor, *others = evaluate_baselines(*judged)
    table = make_image_leaderboard([floor, *others], [theirs, few], None).set_index("row")
    assert table["comparable"].all() and set(table["rank"].dropna()) == {1, 2}
    assert theirs["passport"]["origin"]["n"] == 120 and theirs["passport"]["origin"]["path"].endswith("theirs.npz")
    assert not [each for each in theirs["cautions"] if "share images" in each]
    assert "2 draws of few share images, since there are 90 in all" in few["cautions"][-1]
    with pytest.raises(SimulacraError, match=r"guests.none: .* has no images"):
        judge_guests(GuestsConfig({"none": tmp_path / "none"}), *judged)
    np.savez(tmp_path / "less.npz", model.sample(59, seed=9).images)
    with pytest.raises(SimulacraError, match=r"guests\.less has 59 images where 60 are compared"):
        judge_guests(GuestsConfig({"less": tmp_path / "less.npz"}), *judged)


@pytest.mark.parametrize("name", ["gmm", "floor", "Theirs", "a b", ""])
def test_guests_have_names_of_their_own(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot name them"):
        GuestsConfig({name: "somewhere"})


def test_real_images_as_samples_score_like_the_floor(
    extractor: tuple[Any, dict[str, Any]], model: GaussianMixture
) -> None:
    """The test split itself, handed in as samples, has distance zero and full precision and recall."""
    samples = ImageSet(np.concatenate([TEST.images, TEST.images]), np.concatenate([TEST.labels] * 2), TEST.class_names)
    record = {"n": 60, "seeds": [0, 1], "model_sha256": model.fingerprint()}
    family = evaluate(model, samples, record, trained(model), SPLIT.record(), *extractor, *JUDGED)
    assert family["metrics"]["fd_classifier"]["value"] == pytest.approx(0, abs=1e-6)
    assert all(family["metrics"][key]["value"] == 1 for key in ("precision", "recall", "coverage"))


@pytest.mark.parametrize(
    ("n", "generation", "evaluation", "message"),
    [
        (40, GENERATION, EVALUATION, r"the test split has \d images: bring more data or raise split.test"),
        (300, GenerationConfig(n=10), EVALUATION, "generation.n is 10: raise it"),
        (300, GENERATION, EvaluationConfig(neighbours=60), "neighbours is 60, but .*: lower neighbours or"),
    ],
)
def test_too_few_images_are_refused_when_they_are_split(
    n: int, generation: GenerationConfig, evaluation: EvaluationConfig, message: str
) -> None:
    with pytest.raises(SimulacraError, match=message):
        split(fabricate_images(n=n, size=10), SplitConfig(), generation, evaluation, EditingConfig())


def test_what_cannot_be_edited_is_refused_when_the_data_are_split_before_any_training() -> None:
    data = fabricate_images(n=300, size=10, channels=1, n_classes=3, seed=0)
    with pytest.raises(SimulacraError, match="marks every pixel"):
        split(data, SplitConfig(), GENERATION, EVALUATION, EditingConfig(box=(0, 0, 10, 10)))


def test_a_model_of_another_split_may_not_augment(model: GaussianMixture) -> None:
    whole = AUGMENTATION.model_copy(update={"generator_data": "train"})
    with pytest.raises(SimulacraError, match="gmm was fitted to another split"):
        try_augmentation(TRAIN.take(range(60)), TEST, {"seeds": []}, model, GMM, whole)


def test_bits_of_binary_pixels_have_a_key_of_their_own(extractor: tuple[Any, dict[str, Any]]) -> None:
    model = VAE(VAEConfig(width=4, latent_dim=2, likelihood="bernoulli"))
    model.fit(TRAIN, training=TrainingConfig(steps=1))
    samples, record, _ = generate(model, GENERATION, 0)
    trained_on = {"train_sha256": TRAIN.fingerprint(), "model_sha256": model.fingerprint()}
    family = evaluate(model, samples, record, trained_on, SPLIT.record(), *extractor, *JUDGED)
    assert {key for key in family["metrics"] if "bits" in key} == {"elbo_bits_per_dim_binary"}


def test_images_without_classes_are_judged_by_their_turns() -> None:
    train, validation, test = (ImageSet(part.images) for part in (TRAIN, VALIDATION, TEST))
    classifier, record = train_extractor(train, validation, test, EVALUATION, 0)
    assert record["name"] == "rotation classifier" and len(classifier.class_names) == 4
    floor, *_ = evaluate_baselines(classifier, record, train, validation, test, GENERATION, EVALUATION, 0)
    assert "fd_classifier" in floor["metrics"] and "is_classifier" not in floor["metrics"]
    assert train_on_real(train, test, AUGMENTATION, 0) == {}


def test_the_record_of_a_fit_says_what_it_cost_and_how_to_repeat_it(tmp_path: Path) -> None:
    experiment = {"dataset": "mnist", "kind": "image", "options": " --params seed=3"}
    model, history, record = fit(TRAIN, VALIDATION, Former(), tmp_path, GMM, 3, experiment)
    assert record["command"] == "kedro run --namespaces mnist.gmm --params seed=3"
    assert record["parameters"] == model.n_parameters() and record["train_seconds"] > 0
    assert record["peak_memory_mib"] > 50 and set(history["name"]) == {"bic", "aic"}


def test_a_stale_model_and_stale_samples_are_refused(
    extractor: tuple[Any, dict[str, Any]], model: GaussianMixture
) -> None:
    samples, record, _ = generate(model, GENERATION, 0)
    rest = (*extractor, *JUDGED)
    other = trained(model) | {"train_sha256": TEST.fingerprint()}
    with pytest.raises(SimulacraError, match="gmm was fitted to another split"):
        evaluate(model, samples, record, other, SPLIT.record(), *rest)
    with pytest.raises(SimulacraError, match="samples of gmm are an older model's"):
        evaluate(model, samples, record | {"model_sha256": "0"}, trained(model), SPLIT.record(), *rest)


def test_too_few_samples_a_seed_are_refused(extractor: tuple[Any, dict[str, Any]], model: GaussianMixture) -> None:
    samples, record, _ = generate(model, GenerationConfig(n=25, n_seeds=2), 0)
    with pytest.raises(SimulacraError, match="25 samples a seed where 60 are compared"):
        evaluate(model, samples, record, trained(model), SPLIT.record(), *extractor, *JUDGED)


def test_what_does_not_belong_to_one_model_is_not_put_together(
    extractor: tuple[Any, dict[str, Any]], model: GaussianMixture
) -> None:
    samples, record, cost = generate(model, GENERATION, 0)
    judged = (*extractor, *JUDGED)
    older = trained(model) | {"model_sha256": "of another fit"}
    with pytest.raises(SimulacraError, match="did not come to its end; run `kedro run --pipeline train`"):
        evaluate(model, samples, record, older, SPLIT.record(), *judged)
    with pytest.raises(SimulacraError, match="an older model's; run `kedro run --pipeline generate`"):
        evaluate(model, samples, record | {"model_sha256": "older"}, trained(model), SPLIT.record(), *judged)
    metrics = evaluate(model, samples, record, trained(model), SPLIT.record(), *judged)
    assert metrics["model_sha256"] == model.fingerprint()
    with pytest.raises(SimulacraError, match="metrics of gmm are an older model's"):
        summarise_family(metrics, samples, History().frame(), older, cost, {}, {})


EXPLORATION = ExplorationConfig(examples=2, pairs=2, steps=3, dimensions=2)


def explored(data: ImageSet) -> tuple[VAE, dict[str, Any], Any, Any, ImageSet]:
    """A model that was fitted to a split of the data, and what was found in its latent space."""
    parts = stratified_split(data, SplitConfig())
    model = VAE(VAEConfig(width=4, latent_dim=2))
    model.fit(parts.train, training=TrainingConfig(steps=5, batch_size=32))
    found = explore(model, parts.validation, parts.test, parts.record(), EXPLORATION, 0)
    return (model, *found, parts.test)


@pytest.mark.parametrize(
    ("data", "omitted"),
    [
        (fabricate_images(n=60, size=9, channels=3, n_classes=2, seed=0), set()),
        (fabricate_images(n=60, size=9, channels=1, n_classes=1, seed=0), {"arithmetic"}),
        (fabricate_images(n=60, size=9, channels=1, n_classes=3, seed=0, labelled=False), {"arithmetic"}),
    ],
    ids=["coloured", "one class", "no classes"],
)
def test_any_latent_space_can_be_explored_and_drawn(data: ImageSet, omitted: set[str]) -> None:
    model, record, images, table, test = explored(data)
    assert record["model_sha256"] == model.fingerprint() and set(record["omitted"]) == omitted
    assert {panel["figure"] for panel in record["panels"]} == set(FIGURES) - omitted
    assert len(draw_panels(record, images)) == len(FIGURES)
    family = FamilyConfig(family="vae")
    picture, figure, page = map_latents(table, record, test, {"dataset": "shapes"}, family)
    assert len(picture.axes) == 2 and sum(len(trace.x) for trace in figure.data) == len(test)
    assert "Map of the codes of shapes by vae" in page and record["map_caption"].split(":")[0] in page


def test_a_model_of_another_split_is_not_explored() -> None:
    model, *_, test = explored(TRAIN)
    with pytest.raises(SimulacraError, match="vae was fitted to another split"):
        explore(model, test, test, SPLIT.record(), EXPLORATION, 0)


def test_the_summary_holds_the_latent_space_of_its_own_model_only() -> None:
    model, record, images, table, _ = explored(TRAIN)
    metrics = {"row": "vae", "model_sha256": model.fingerprint(), "metrics": {}}
    training = {"model_sha256": model.fingerprint(), "train_seconds": 1.0, "parameters": 1, "config": {}}
    drawing = {"model_sha256": model.fingerprint(), "options": {}, "class_names": []}
    results = (TEST, History().frame(), training, {"sample_ms": 1.0}, {}, drawing)
    latent = summarise_family(metrics, *results, record, images, table)["latent"]
    assert latent["metrics"] == record["metrics"] and len(latent["pictures"]) == len(record["panels"])
    assert summarise_family(metrics, *results)["latent"] is None
    with pytest.raises(SimulacraError, match="latent space of vae is an older model's; run `kedro run --pipeline ex"):
        summarise_family(metrics, *results, record | {"model_sha256": "older"}, images, table)
    with pytest.raises(SimulacraError, match="what vae drew is an older model's; run `kedro run --pipeline generate`"):
        summarise_family(metrics, *results[:-1], drawing | {"model_sha256": "older"})


EDITING = EditingConfig(examples=2, pairs=1, pictures=2, n_images=10, strength=(0.5,), seed=5)
HERE = {"dataset": "shapes", "options": " --env test --params vae.model.beta=2"}


def edited(extractor: tuple[Any, dict[str, Any]]) -> tuple[Diffusion, dict[str, Any], Any]:
    model = Diffusion(DiffusionConfig(width=8, sampler_steps=2, timesteps=20))
    model.fit(TRAIN, training=TrainingConfig(steps=2, batch_size=16))
    given = (*read_pictures(TEST, EDITING), TRAIN, TEST, SPLIT.record(), *extractor, EDITING, HERE, 0)
    return model, *edit(model, *given)


def test_edits_are_recorded_drawn_and_summed_up(extractor: tuple[Any, dict[str, Any]]) -> None:
    model, record, images = edited(extractor)
    assert record["seed"] == 5 and record["metrics"]["fill_images"] == 10 and record["omitted"] == {}
    assert len(draw_edits(record, images)) == len(EDITS) == len(record["panels"])
    metrics = {"row": "diffusion", "model_sha256": model.fingerprint(), "metrics": {}}
    training = {"model_sha256": model.fingerprint(), "train_seconds": 1.0, "parameters": 1, "config": {}}
    drawn = {"model_sha256": model.fingerprint(), "options": {}, "class_names": []}
    results = (metrics, TEST, History().frame(), training, {"sample_ms": 1.0}, {}, drawn)
    summary = summarise_family(*results, edits=record, edited_images=images)["editing"]
    assert [picture["title"] for picture in summary["pictures"]] == [panel["title"] for panel in record["panels"]]
    assert "without the model being told it" in summary["sentence"]
    assert summarise_family(*results)["editing"] is None
    with pytest.raises(
        SimulacraError, match="edits of diffusion are an older model's; run `kedro run --pipeline edit`"
    ):
        summarise_family(*results, edits=record | {"model_sha256": "older"}, edited_images=images)


def test_a_model_of_another_split_does_not_edit(extractor: tuple[Any, dict[str, Any]]) -> None:
    model = Diffusion(DiffusionConfig(width=8, sampler_steps=2, timesteps=20))
    model.fit(VALIDATION, training=TrainingConfig(steps=2, batch_size=16))
    with pytest.raises(SimulacraError, match="diffusion was fitted to another split"):
        edit(model, *read_pictures(TEST, EDITING), TRAIN, TEST, SPLIT.record(), *extractor, EDITING, HERE, 0)


def test_what_was_edited_is_told_and_how_to_edit_more() -> None:
    assert command(HERE) == (
        "kedro run --pipelines edit,report --namespaces shapes --env test --params "
        "shapes.editing.images=my_picture.png,shapes.editing.mask=left"
    )
    assert about({"names": []}, (1, 8, 8)).startswith("Edited are test images")
    remarks = {"sizes": [[640, 480]] * 7, "resized": 7, "converted": 2}
    said = about({"names": [f"{number}.png" for number in range(7)], "remarks": remarks}, (3, 8, 8))
    assert "0.png (640×480), " in said and "and 2 more" in said
    assert "Of 7, 7 had to be resized to 8×8 pixels, and 2 converted to colour." in said


def test_the_summary_tells_the_parameters_of_the_fit(tmp_path: Path, extractor: tuple[Any, dict[str, Any]]) -> None:
    experiment = {"dataset": "mnist", "options": ""}
    model, history, record = fit(TRAIN, VALIDATION, Former(), tmp_path, GMM, 0, experiment)
    samples, generation, cost = generate(model, GENERATION, 0)
    judged = (*extractor, *JUDGED)
    metrics = evaluate(model, samples, generation, record, SPLIT.record(), *judged)
    drawing = {"model_sha256": model.fingerprint(), "options": {}, "class_names": []}
    summary = summarise_family(metrics, samples, history, record, cost, {}, drawing)
    # A family in closed form has no budget to tell of.
    assert yaml.safe_load(summary["config"]) == {"model": {"pca_dim": 4, "components": [1]}}
    assert summary["record"]["metrics"]["train_seconds"]["value"] == record["train_seconds"]


def test_what_is_asked_for_is_drawn_and_told(model: GaussianMixture) -> None:
    asked = SamplingConfig(n=7, classes=f"{TRAIN.class_names[2]} 0", seed=5)
    drawn, pictures, record = draw(model, GMM, asked)
    assert drawn is pictures and drawn.labels.tolist() == [2, 0, 2, 0, 2, 0, 2]
    assert drawn.fingerprint() == model.sample(7, condition=[2, 0, 2, 0, 2, 0, 2], seed=5).fingerprint()
    assert (record["n"], record["seed"], record["options"]) == (7, 5, {})
    assert (record["sha256"], record["model_sha256"]) == (drawn.fingerprint(), model.fingerprint())
    assert len(plot_drawn(drawn).axes[0].get_yticks()) == 2  # no row for the class that nobody asked for
    by_default, *_ = draw(model, GMM, SamplingConfig())
    assert by_default.fingerprint() == model.sample(40, seed=0).fingerprint()


def test_a_prompt_reaches_the_sampler_of_a_family_and_is_refused_by_one_that_has_none(model: GaussianMixture) -> None:
    with pytest.raises(SimulacraError, match="gmm takes no prompts"):
        draw(model, GMM, SamplingConfig(prompt="a thick seven"))


def test_a_denoised_draw_comes_with_its_film(extractor: tuple[Any, dict[str, Any]]) -> None:
    model = Diffusion(DiffusionConfig(width=8, timesteps=100, sampler_steps=4))
    model.fit(TRAIN, training=TrainingConfig(steps=2, batch_size=32))
    config = FamilyConfig(family="diffusion", model=model.config.model_dump())
    asked = SamplingConfig(n=6, classes=[1], guidance=2.0, steps=3, seed=1)
    drawn, _, record, film = draw_filmed(model, config, asked)
    assert record["options"] == {
        "guidance": 2.0,
        "sampler": "sde_dpm_solver",
        "steps": 3,
        "spacing": "time",
        "eta": 0.0,
    }
    assert drawn.fingerprint() == draw(model, config, asked)[0].fingerprint()
    assert [panel["columns"] for panel in record["film"]] == [["noise", "1", "2", "3"]] * 2
    strip, frames = plot_film(record, film)
    assert len(strip.axes) == 2 and len(frames) == 4 and frames.shape[-1] == 3
    training = {"model_sha256": model.fingerprint(), "train_seconds": 1.0, "parameters": 1, "config": {}}
    passport = {"extractors": {"x": {"name": "x"}}, "seeds": [0], "n_real": 1, "n_generated": 1, "compared": "both"}
    metrics = {"row": "diffusion", "role": "family", "model_sha256": model.fingerprint(), "passport_id": "a"}
    entry = {"value": 1.0, "std": 0.1, "per_seed": None}
    metrics |= {"passport": passport, "metrics": {"fd_classifier": entry, "vendi": entry}}
    verdict = {"family": "diffusion", "verdict": "not applicable", "reason": "-", "difference": None, "interval": None}
    results = (TEST, History().frame(), training | {"command": "-"}, {"sample_ms": 1.0}, verdict, record)
    neighbours, beside = find_neighbours(TEST, {"model_sha256": model.fingerprint()}, *extractor, TRAIN)
    summary = summarise_family(metrics, *results, film=film, neighbours=neighbours, neighbour_images=beside)
    with pytest.raises(SimulacraError, match="neighbours of samples of diffusion are an older model's"):
        summarise_family(metrics, *results, neighbours=neighbours | {"model_sha256": "other"}, neighbour_images=beside)
    experiment = {"dataset": "toy", "kind": "image", "options": " --params seed=3"}
    floor = metrics | {"row": "floor", "role": "floor"}
    table = leaderboard([floor, summary["record"]])
    curves = {"noise": [[0.0, 1.0], [8.0, 2.0]], "blur": [[0.0, 1.0], [0.5, 0.9]]}
    evaluator = {"metric": "fd_classifier", "n": 60, "curves": curves, "rises": {"noise": True, "blur": False}}
    page = write_report(table, [floor], [], TRAIN, SPLIT.record(), {}, None, evaluator, experiment, summary)
    assert "FD (classifier) does not rise at every step of: blur." in page
    assert "diffusion: samples above the training images nearest to them" in page
    assert "From noise to image: diffusion" in page and "Drawn by guidance 2.0, sampler sde_dpm_solver" in page
    assert (
        "kedro run --pipeline generate --namespaces toy.diffusion --params seed=3,toy.diffusion.sampling.n=64" in page
    )
    assert f"toy.diffusion.sampling.classes={TRAIN.class_names[-1]},toy.diffusion.sampling.guidance=2.0" in page


@pytest.fixture(scope="module")
def prompted(extractor: tuple[Any, dict[str, Any]]) -> tuple[Diffusion, dict[str, Any], ImageSet]:
    model = Diffusion(DiffusionConfig(width=8, timesteps=50, sampler_steps=2))
    model.fit(TRAIN, training=TrainingConfig(steps=2))
    return model, *try_prompts(model, *extractor, seed=0)


def test_prompts_are_tried_and_shown_with_intervals(prompted: tuple[Diffusion, dict[str, Any], ImageSet]) -> None:
    model, record, pixels = prompted
    assert json.loads(json.dumps(record)) == record and record["model_sha256"] == model.fingerprint()
    words = model.captions.words
    assert words and set(record["fidelity"]["words"]) == set(words)
    metrics = record["metrics"]
    assert {"prompt_class_accuracy", "prompt_attribute_accuracy"} <= set(metrics)
    for found in (record["fidelity"]["classes"], record["fidelity"]["attributes"]):
        low, high = found["interval"]
        assert 0 <= low <= found["value"] <= high <= 1 and found["n"] > 100
    (panel,) = unpack(record["panels"], pixels)
    assert panel.images.shape == (6, 8, *TRAIN.shape) and panel.rows[0].startswith("a ")
    assert plot_prompts(record, pixels).axes
    sentences = prompt_sentences(record)
    assert "480 images" in sentences and all(word in sentences for word in words)


@pytest.mark.parametrize(
    ("data", "captions", "reason"),
    [(TRAIN, False, "its captions are switched off"), (ImageSet(TRAIN.images), True, "it was fitted without classes")],
    ids=["switched off", "without classes"],
)
def test_a_model_that_takes_no_prompts_says_why(
    extractor: tuple[Any, dict[str, Any]], data: ImageSet, captions: bool, reason: str
) -> None:
    model = Diffusion(DiffusionConfig(width=8, timesteps=50, sampler_steps=2, captions=captions))
    model.fit(data, training=TrainingConfig(steps=1))
    record, pixels = try_prompts(model, *extractor, seed=0)
    assert record["omitted"] == f"diffusion takes no prompts: {reason}"
    assert record["metrics"] == {} and len(pixels) == 0 and plot_prompts(record, pixels) is not None


def test_the_summary_refuses_what_an_older_model_drew_by_prompt(
    prompted: tuple[Diffusion, dict[str, Any], ImageSet],
) -> None:
    _, record, pixels = prompted
    of_now = {"model_sha256": "new", "row": "diffusion", "metrics": {}}
    with pytest.raises(SimulacraError, match="drew by prompt is an older model's; run `kedro run --pipeline evaluate`"):
        of_all = (of_now, pixels, History().frame(), of_now, {}, {}, of_now)
        summarise_family(*of_all, prompt_fidelity=record, prompted_images=pixels)


SHAPES = {"dataset": "shapes", "options": ""}
STUDY = StudyConfig(trials=60)


def asked() -> tuple[str, dict[str, Any]]:
    made = {"gmm_samples": TRAIN, "vae_samples": VALIDATION}
    made |= {f"{family}_record": {"model_sha256": f"fit of {family}"} for family in ("gmm", "vae")}
    return make_study(TEST, STUDY, SHAPES, 0, **made)


def answered(key: dict[str, Any], place: Path, rater: str) -> None:
    """A file of answers by somebody who takes gmm for generated, everything else for real, and prefers vae."""
    rows = []
    for name, trial in key["trials"].items():
        shown = [each["source"] for each in trial["shown"]]
        said = ("left", "right")[shown[0] == "gmm"] if len(shown) > 1 else ("real", "generated")[shown == ["gmm"]]
        rows.append(f"{key['study']},{rater},{name},{trial['expected'] or said},1200")
    place.mkdir(exist_ok=True)
    (place / f"{rater}.csv").write_text("\n".join(["study,rater,trial,answer,milliseconds", *rows]))


def test_a_study_names_the_models_in_its_key_only() -> None:
    page, key = asked()
    assert key["models"] == {"gmm": "fit of gmm", "vae": "fit of vae"} and key["real_sha256"] == TEST.fingerprint()
    assert key["dataset"] == "shapes" and len(key["trials"]) == 60 and "fit of" not in page
    other = make_study(
        TEST, StudyConfig(trials=60, seed=0), SHAPES, 7, gmm_samples=TRAIN, gmm_record={"model_sha256": ""}
    )
    assert other[1]["seed"] == 0


def test_answers_become_a_record_a_figure_and_metrics_of_each_family(tmp_path: Path) -> None:
    _, key = asked()
    for rater in ("ann", "bob"):
        answered(key, tmp_path / "answers", rater)
    record = hear_raters(key, ResultsConfig(answers=tmp_path / "answers"))
    json.dumps(record, allow_nan=False)
    assert record["n_raters"] == 2 and record["models"] == key["models"] and record["study"] == key["study"]
    assert {name: rate["value"] for name, rate in record["families"].items()} == {"gmm": 0, "vae": 1}
    assert record["real"]["value"] == 0 and record["agreement"]["real_or_fake"]["alpha"] == 1
    assert "vae won all its comparisons" in record["preference"]["note"]
    said = take_judgement(record, GMM)
    assert said["metrics"]["human_error_rate"] == 0 and said["model_sha256"] == "fit of gmm"
    assert len(plot_judgement(record).axes) == 2

    floor = {
        "row": "floor",
        "role": "floor",
        "metrics": {"fd_classifier": {"value": 0.1, "std": 0.0}},
        "passport_id": "p",
    }
    floor["passport"] = {}
    rows = [
        {"record": floor | {"row": family, "role": "family", "model_sha256": model}}
        for family, model in (("gmm", "fit of gmm"), ("vae", "a later fit"))
    ]
    table = make_image_leaderboard([floor], [], record, *rows).set_index("row")
    assert table.loc["gmm", "human_error_rate"] == 0 and np.isnan(table.loc["vae", "human_error_rate"])
    assert "human_error_rate" not in make_image_leaderboard([floor], [], None, *rows)


def test_answers_of_another_format_need_no_key(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("who,kind,model,said\n" + "a,real,,real\na,fake,gmm,real\na,fake,gmm,fake\n" * 10)
    columns = ColumnsConfig(shown="kind", generated="fake", said="said", family="model", rater="who")
    record = hear_raters(None, ResultsConfig(answers=path, columns=columns))
    assert record["models"] == {} and record["families"]["gmm"]["value"] == 0.5
    with pytest.raises(SimulacraError, match="there is no key of a study"):
        hear_raters(None, ResultsConfig(answers=path))
    assert REAL not in record["families"]
    for part in (plot_judgement, lambda said: take_judgement(said, GMM)):
        with pytest.raises(SimulacraError, match="no answers of raters were read yet"):
            part(None)

"""Prompts tried on families whose faithfulness is known, and on the one that is trained for them."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from simulacra.augmentation.classifiers import fit_classifier
from simulacra.data.captions import Captions, learn_thirds
from simulacra.data.config import MnistSource, SplitConfig
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.exploration.prompts import MEASURED, try_prompts
from simulacra.models.base import Condition, Prompt
from simulacra.models.diffusion import Diffusion
from simulacra.models.naive_bayes import NaiveBayes, NaiveBayesConfig
from simulacra.pipelines.config import EvaluationConfig
from simulacra.training.config import TrainingConfig

CONF = Path(__file__).resolve().parents[2] / "conf/base/parameters"
DATA = fabricate_images(n=400, size=12, channels=1, n_classes=3, seed=0)
CAPTIONS = Captions(DATA.class_names, learn_thirds(DATA))


class Copyist(NaiveBayes):
    """Hands out real images: of the class that a prompt names, and of its words as well where it heeds them."""

    heeds_words = True

    def sample(self, n: int, *, condition: Condition = None, seed: int) -> ImageSet:
        """Return a real image for each prompt."""
        rng, own = np.random.default_rng(seed), CAPTIONS.sides(DATA)
        rows = []
        for prompt in condition:
            assert isinstance(prompt, Prompt)
            label, sides = CAPTIONS.read(prompt.text)
            said = np.array(sides) if self.heeds_words else np.zeros(3, int)
            fits = (DATA.labels == label) & ((own == said) | (said == 0)).all(axis=1)
            rows.append(rng.choice(np.flatnonzero(fits)))
        return DATA.take(np.array(rows))


def asked(copyist: NaiveBayes) -> dict[str, float]:
    remembered = {image.tobytes(): label for image, label in zip(DATA.images, DATA.labels, strict=True)}
    tried = try_prompts(
        copyist, CAPTIONS, lambda images: np.array([remembered[image.tobytes()] for image in images]), seed=0
    )
    assert tried.fidelity["classes"]["n"] == MEASURED
    assert tried.panel.images.shape == (6, 8, 1, 12, 12) and len(set(tried.panel.rows)) == 6
    return tried.metrics


def test_what_was_asked_for_scores_one() -> None:
    metrics = asked(Copyist(NaiveBayesConfig()))
    assert metrics["prompt_class_accuracy"] == 1 == metrics["prompt_attribute_accuracy"]
    assert all(value == pytest.approx(1) for key, value in metrics.items() if key.startswith("prompt_spearman"))


def test_real_images_that_heed_no_words_score_a_third() -> None:
    deaf = Copyist(NaiveBayesConfig())
    deaf.heeds_words = False
    metrics = asked(deaf)
    assert metrics["prompt_class_accuracy"] == 1
    assert metrics["prompt_attribute_accuracy"] == pytest.approx(1 / 3, abs=0.1)
    spearman = [value for key, value in metrics.items() if key.startswith("prompt_spearman")]
    assert spearman == pytest.approx([0] * len(spearman), abs=0.2)


def test_a_class_without_words_is_shown_alone() -> None:
    nothing = Captions(DATA.class_names)
    tried = try_prompts(Copyist(NaiveBayesConfig()), nothing, lambda images: np.zeros(len(images), int), seed=0)
    assert set(tried.metrics) == {"prompt_class_accuracy"}
    assert tried.panel.rows == ("a bar", "a disc", "a cross")


@pytest.mark.slow
def test_digits_are_drawn_to_order() -> None:
    """At the laptop's budget: far above the third that chance has of a word, and the tenth that it has of a class."""
    split = stratified_split(load_images(MnistSource(type="mnist"))[0], SplitConfig())
    blocks = {
        name: yaml.safe_load((CONF / f"{name}.yml").read_text()) for name in ("common", "diffusion", "evaluation")
    }
    training = TrainingConfig.model_validate(
        blocks["common"]["training"] | blocks["diffusion"]["diffusion"]["training"] | {"watch_every": 0}
    )
    model = Diffusion(Diffusion.Config.model_validate(blocks["diffusion"]["diffusion"]["model"]))
    model.fit(split.train, training=training, seed=0)
    judge = EvaluationConfig.model_validate(blocks["evaluation"]["evaluation"]).classifier
    classifier, _ = fit_classifier(split.train, judge, seed=0, validation=split.validation, title="judge")
    assert model.captions is not None and set(model.captions.words) >= {"thin", "thick", "upright", "slanted"}
    tried = try_prompts(model, model.captions, classifier.predict, seed=0)
    assert tried.fidelity["classes"]["interval"][0] > 0.9
    assert tried.fidelity["attributes"]["interval"][0] > 0.5, tried.fidelity

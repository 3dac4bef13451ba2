"""Make the page that raters answer, and the key that tells what was shown."""

from typing import Any

from simulacra.human.config import StudyConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import ImageSet

SAMPLES, RECORD = "_samples", "_record"
"""How the names end under which each family's samples, and the record of their making, come to the node."""


@skippable
def make_study(
    test_set: ImageSet, human_study: StudyConfig, experiment: dict[str, Any], seed: int, **made: Any
) -> tuple[str, dict[str, Any]]:
    """Return the page as HTML, and its key, which also holds by which models the samples were drawn."""
    from simulacra.human.page import render_page
    from simulacra.human.study import design

    families = sorted(name.removesuffix(SAMPLES) for name in made if name.endswith(SAMPLES))
    samples = {family: made[f"{family}{SAMPLES}"] for family in families}
    seed = seed if human_study.seed is None else human_study.seed
    study = design(test_set, samples, human_study, seed=seed)
    models = {family: made[f"{family}{RECORD}"]["model_sha256"] for family in families}
    about = {"dataset": experiment["dataset"], "models": models, "real_sha256": test_set.fingerprint()}
    return render_page(study, experiment["dataset"]), study.key() | about

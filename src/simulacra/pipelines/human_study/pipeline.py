"""Template of the stage `human_study`, once a dataset over its families."""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.human_study.nodes import RECORD, SAMPLES, make_study


def create_pipeline(families: Sequence[str]) -> Pipeline:
    """Return test images, every family's samples → page, key."""
    inputs = {
        "test_set": "test_set",
        "human_study": "params:human_study",
        "experiment": "params:experiment",
        "seed": "params:seed",
        **{f"{family}{SAMPLES}": f"{family}.samples" for family in families},
        **{f"{family}{RECORD}": f"{family}.generation_record" for family in families},
    }
    return Pipeline([Node(make_study, inputs, ["human_page", "human_key"], name="make_study", tags="human_study")])

"""Read the answers, find what they say, and draw it."""

from typing import Any

from simulacra.errors import SimulacraError
from simulacra.human.config import ResultsConfig
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import Figure
from simulacra.pipelines.config import FamilyConfig


@skippable
def hear_raters(human_key: dict[str, Any] | None, human_results: ResultsConfig) -> dict[str, Any]:
    """Return the record of what the answers say, and of which models they say it.

    Answers of another format come without a key, and so does what they are about: then no model is named.
    """
    from simulacra.human.analysis import analyse
    from simulacra.human.answers import read_answers

    answers = read_answers(human_results.answers.expanduser(), human_key, human_results.columns)
    about: dict[str, Any] = {"study": None, "models": {}, "real_sha256": None}
    if human_key is not None and human_results.columns is None:
        about = {name: human_key[name] for name in about}
    return about | analyse(answers, human_results.exclude)


@skippable
def plot_judgement(human_record: dict[str, Any] | None) -> Figure:
    """Draw error rates and strengths with their intervals."""
    from simulacra.plotting import human_figure

    return human_figure(_heard(human_record))


@skippable
def take_judgement(human_record: dict[str, Any] | None, config: FamilyConfig) -> dict[str, Any]:
    """Return what people say of one family, for its run in MLflow."""
    from simulacra.human.analysis import family_metrics

    record = _heard(human_record)
    return {
        "row": config.family,
        "study": record["study"],
        "model_sha256": record["models"].get(config.family),
        "metrics": family_metrics(record, config.family),
    }


def _heard(human_record: dict[str, Any] | None) -> dict[str, Any]:
    """Refuse to go on where a part of the stage is run alone, and no answers were read before."""
    if human_record is None:
        raise SimulacraError("no answers of raters were read yet; run `kedro run --pipeline human_results`")
    return human_record

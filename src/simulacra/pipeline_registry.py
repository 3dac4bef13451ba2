"""Every registered pipeline, built from one template a stage and the datasets of experiments.yml."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import add

from kedro.pipeline import Pipeline

from simulacra.experiments import ASKING_PEOPLE, RETRAINING, STAGES, Experiment, load_experiments
from simulacra.models import FAMILIES, Family
from simulacra.pipelines.augment import pipeline as augment
from simulacra.pipelines.edit import pipeline as edit
from simulacra.pipelines.evaluate import pipeline as evaluate
from simulacra.pipelines.explore import pipeline as explore
from simulacra.pipelines.generate import pipeline as generate
from simulacra.pipelines.human_results import pipeline as human_results
from simulacra.pipelines.human_study import pipeline as human_study
from simulacra.pipelines.ingest import pipeline as ingest
from simulacra.pipelines.preprocess import pipeline as preprocess
from simulacra.pipelines.report import pipeline as report
from simulacra.pipelines.retrain import pipeline as retrain
from simulacra.pipelines.train import pipeline as train

DATASET_WIDE = {
    *("train_set", "validation_set", "test_set", "split_record", "extractor", "extractor_record", "real_accuracy"),
    *("edit_pictures", "edit_mask", "edit_source", "human_record", "former"),
    *("params:experiment", "params:generation", "params:evaluation", "params:augmentation", "params:exploration"),
    *("train_texts", "validation_texts", "test_texts", "params:editing", "params:language"),
}
"""What the pipelines of a family read from its dataset's namespace rather than from their own."""


def register_pipelines() -> dict[str, Pipeline]:
    """Return one pipeline a stage (over all datasets), one a family's training, one a dataset, and `__default__`."""
    experiments = list(load_experiments().values())
    parts = {experiment.dataset: dataset_stages(experiment) for experiment in experiments}
    pipelines = {
        stage: _sum(stages[stage] for stages in parts.values()) for stage in (*STAGES, *ASKING_PEOPLE, *RETRAINING)
    }
    for family in sorted({family for experiment in experiments for family in experiment.families}):
        pipelines[f"train_{family}"] = pipelines["train"].only_nodes_with_tags(family)
    for dataset, stages in parts.items():
        pipelines[dataset] = _sum(stages[stage] for stage in STAGES)
    return pipelines | {"__default__": pipelines[experiments[0].dataset]}


def dataset_stages(experiment: Experiment) -> dict[str, Pipeline]:
    """Return the pipelines of one dataset, all its families included, by stage; a stage may be empty."""
    made = {"image": _image_stages, "text": _text_stages}[experiment.kind](experiment)
    return {stage: made.get(stage, Pipeline([])) for stage in (*STAGES, *ASKING_PEOPLE, *RETRAINING)}


def _text_stages(experiment: Experiment) -> dict[str, Pipeline]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*'\\.' characters.*")
        whole = _of_dataset(report.create_dataset_text_pipeline(experiment.families), experiment)
        gate = _of_dataset(retrain.create_dataset_text_pipeline(experiment.families), experiment)
        operations = _of_dataset(retrain.create_operations_pipeline(experiment.families), experiment)
    gate += _of_families(lambda _: retrain.create_family_text_pipeline(), experiment)
    made = {
        "ingest": _of_dataset(ingest.create_text_pipeline(), experiment),
        "preprocess": _of_dataset(preprocess.create_text_pipeline(), experiment),
        "watch": _of_dataset(retrain.create_text_watch_pipeline() + retrain.create_former_pipeline(), experiment)
        + operations,
        "draw_champion": _of_dataset(retrain.create_text_drawing_pipeline(), experiment),
        "train": _of_families(lambda _: train.create_text_pipeline(), experiment),
        "generate": _of_families(lambda _: generate.create_text_pipeline(), experiment),
        "evaluate": _of_dataset(evaluate.create_dataset_text_pipeline(), experiment)
        + _of_families(lambda _: evaluate.create_family_text_pipeline(), experiment),
        "report": whole + _of_families(lambda _: report.create_family_text_pipeline(), experiment),
    }
    return made | {"retrain": _retrain(made, gate, experiment)}


def _image_stages(experiment: Experiment) -> dict[str, Pipeline]:
    with warnings.catch_warnings():
        # `vae.summary` inside the namespace `mnist` is meant: the dataset's stage gathers what its families made.
        warnings.filterwarnings("ignore", message=".*'\\.' characters.*")
        whole = _of_dataset(report.create_dataset_pipeline(experiment.families), experiment)
        study = _of_dataset(human_study.create_pipeline(experiment.families), experiment)
        gate = _of_dataset(retrain.create_dataset_pipeline(experiment.families), experiment)
        operations = _of_dataset(retrain.create_operations_pipeline(experiment.families), experiment)
    edits = _of_families(edit.create_family_pipeline, experiment)
    gate += _of_families(lambda _: retrain.create_family_pipeline(), experiment)
    made = {
        "ingest": _of_dataset(ingest.create_pipeline(), experiment),
        "preprocess": _of_dataset(preprocess.create_pipeline(), experiment),
        "watch": _of_dataset(retrain.create_watch_pipeline() + retrain.create_former_pipeline(), experiment)
        + operations,
        "draw_champion": _of_dataset(retrain.create_drawing_pipeline(), experiment),
        "train": _of_families(lambda _: train.create_pipeline(), experiment),
        "generate": _of_families(generate.create_pipeline, experiment),
        "evaluate": _of_dataset(evaluate.create_dataset_pipeline(), experiment)
        + _of_families(evaluate.create_family_pipeline, experiment),
        "augment": _of_dataset(augment.create_dataset_pipeline(), experiment)
        + _of_families(lambda _: augment.create_family_pipeline(), experiment),
        "explore": _of_families(explore.create_pipeline, experiment),
        # Pictures are read where there is a family to edit them.
        "edit": _of_dataset(edit.create_dataset_pipeline(), experiment) + edits if edits.nodes else edits,
        "report": whole + _of_families(report.create_family_pipeline, experiment),
        "human_study": study,
        # What people say goes into the same leaderboard and report, made by the same nodes.
        "human_results": _of_dataset(human_results.create_dataset_pipeline(), experiment)
        + _of_families(lambda _: human_results.create_family_pipeline(), experiment)
        + whole,
    }
    return made | {"retrain": _retrain(made, gate, experiment)}


def _retrain(made: Mapping[str, Pipeline], gate: Pipeline, experiment: Experiment) -> Pipeline:
    """Return all that the gate's decision hangs on, and no picture besides."""
    everything = _sum(made[each] for each in (*STAGES, "watch") if each in made) + gate
    return everything.to_outputs(f"{experiment.dataset}.operations")


def _of_dataset(template: Pipeline, experiment: Experiment) -> Pipeline:
    """Put a template into the dataset's namespace."""
    return Pipeline(
        template,
        namespace=experiment.dataset,
        parameters={"params:seed"} & template.inputs(),
        tags=experiment.dataset,
    )


def _of_families(template: Callable[[Family], Pipeline], experiment: Experiment) -> Pipeline:
    """Put a template into the namespace of every family of the dataset."""
    return _sum(_of_family(template(FAMILIES[each]), experiment.dataset, each) for each in experiment.families)


def _of_family(template: Pipeline, dataset: str, family: str) -> Pipeline:
    own = {"params:family": f"params:{dataset}.{family}", "params:seed": "params:seed"}
    own["params:sampling"] = f"params:{dataset}.{family}.sampling"
    shared = {
        name: name.replace("params:", f"params:{dataset}.") for name in DATASET_WIDE if name.startswith("params:")
    }
    free = template.inputs()
    return Pipeline(
        template,
        namespace=f"{dataset}.{family}",
        inputs={name: f"{dataset}.{name}" for name in DATASET_WIDE & free if not name.startswith("params:")},
        parameters={name: target for name, target in (own | shared).items() if name in free},
        tags={dataset, family},
    )


def _sum(pipelines: Iterable[Pipeline]) -> Pipeline:
    return reduce(add, pipelines, Pipeline([]))

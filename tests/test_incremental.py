"""Records, plans and skipping, with real nodes (split, fit, plot_curves) on small data, run by Kedro's own runner."""

import inspect
import json
import logging
import os
import pickle
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner

from simulacra.data.config import SplitConfig
from simulacra.data.image_set import ImageSet
from simulacra.datasets import (
    CheckedDataset,
    CheckpointFolder,
    FormerDataset,
    ImageSetDataset,
    ModelDataset,
    OptionalDataset,
)
from simulacra.editing.config import EditingConfig
from simulacra.experiments import Experiment
from simulacra.human.config import ColumnsConfig, ExclusionConfig, ResultsConfig
from simulacra.incremental import SKIPPABLE, IncrementalHooks, Plan, Skip, Unchanged, make_plan, node_key
from simulacra.pipeline_registry import dataset_stages
from simulacra.pipelines.config import EvaluationConfig, FamilyConfig, GenerationConfig
from simulacra.pipelines.evaluate.nodes import evaluate_baselines
from simulacra.pipelines.train import nodes
from simulacra.state import STATE
from simulacra.training.config import TrainingConfig

SPLIT, FIT, CURVES = "toy.split", "toy.gmm.fit", "toy.gmm.plot_curves"
stages = dataset_stages(Experiment("toy", "image", ("gmm",)))
PIPELINE = stages["preprocess"] + stages["train"]
PARAMETERS: dict[str, Any] = {
    "force": False,
    "seed": 0,
    "toy.split": SplitConfig(),
    "toy.editing": EditingConfig(),
    "toy.generation": GenerationConfig(n=20),
    "toy.evaluation": EvaluationConfig(),
    "toy.experiment": {"dataset": "toy", "kind": "image", "options": ""},
    "toy.gmm": FamilyConfig(family="gmm", model={"pca_dim": 4, "components": [1]}),
}
JSON, CSV = "json.JSONDataset", {"type": "pandas.CSVDataset", "save_args": {"index": False}}


class Project:
    """A folder with the data of the pipeline, and what a run needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parameters = dict(PARAMETERS)

    def catalog(self, **others: AbstractDataset) -> DataCatalog:
        images = {f"toy.{name}": name for name in ("raw", "train_set", "validation_set", "test_set")}
        return DataCatalog(
            {name: ImageSetDataset(str(self.root / f"{file}.safetensors")) for name, file in images.items()}
            | {
                "toy.split_record": CheckedDataset(str(self.root / "split.json"), JSON),
                "toy.former": FormerDataset(str(self.root / "former")),
                "toy.gmm.model": ModelDataset(str(self.root / "model")),
                "toy.gmm.history": CheckedDataset(str(self.root / "history.csv"), CSV),
                "toy.gmm.training_record": CheckedDataset(str(self.root / "training.json"), JSON),
                "toy.gmm.curves": CheckedDataset(str(self.root / "curves.png"), "matplotlib.MatplotlibDataset"),
                "toy.gmm.checkpoints": CheckpointFolder(str(self.root / "checkpoints")),
            }
            | {f"params:{name}": MemoryDataset(value) for name, value in self.parameters.items()}
            | others
        )

    def plan(self) -> Plan:
        return make_plan(PIPELINE, self.catalog())

    def run(self, pipeline: Pipeline = PIPELINE, runner: Any = None, **others: AbstractDataset) -> None:
        manager, hooks, catalog = _create_hook_manager(), IncrementalHooks(), self.catalog(**others)
        hooks.after_catalog_created(catalog)
        manager.register(hooks)
        (runner or SequentialRunner()).run(pipeline, catalog, manager)

    def record(self, node: str) -> Path:
        return self.root / ".simulacra/nodes" / f"{node}.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: ImageSet) -> Path:
    """A folder in which the pipeline ran."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.catalog().save("toy.raw", images)
    before = os.environ.get(STATE)
    os.environ[STATE] = str(project.root / ".simulacra")
    project.run()
    os.environ.pop(STATE) if before is None else os.environ.update({STATE: before})
    return project.root


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the finished folder of one's own."""
    monkeypatch.setenv(STATE, str(tmp_path / "p/.simulacra"))
    return Project(shutil.copytree(finished, tmp_path / "p"))


@pytest.fixture
def unchanged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The nodes that were skipped so far, sorted."""
    caplog.set_level(logging.INFO, "simulacra.incremental")
    return lambda: sorted(record.getMessage().removeprefix("unchanged: ") for record in caplog.records)


def test_after_a_run_nothing_is_to_be_done_even_in_a_copy(project: Project) -> None:
    plan = project.plan()
    assert plan.stale == []
    assert plan.reused == {
        "": ["toy.train_set", "toy.validation_set", "toy.test_set", "toy.split_record"],
        "toy.gmm": ["toy.gmm.model", "toy.gmm.history", "toy.gmm.training_record", "toy.gmm.curves"],
    }


def test_a_record_names_key_outputs_and_time(project: Project) -> None:
    record = json.loads(project.record(FIT).read_text())
    assert set(record) == {"key", "outputs", "finished_at"}
    assert record["outputs"]["toy.gmm.model"] == project.catalog().get("toy.gmm.model").fingerprint()


@pytest.mark.parametrize("runner", [SequentialRunner(), SequentialRunner(is_async=True), ThreadRunner(max_workers=2)])
def test_a_node_that_is_done_is_skipped_by_every_runner(project: Project, unchanged: Callable, runner: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}
    project.run(runner=runner)
    assert unchanged() == sorted([SPLIT, FIT, CURVES])
    assert before == {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}


def test_a_parameter_starts_what_reads_it_and_what_hangs_on_that(project: Project, unchanged: Callable) -> None:
    project.parameters["toy.gmm"] = FamilyConfig(family="gmm", model={"pca_dim": 5, "components": [1]})
    plan = project.plan()
    assert plan.stale == [FIT, CURVES] and set(plan.reused) == {""}
    project.parameters["toy.split"] = SplitConfig(seed=1)
    assert project.plan().stale == [SPLIT, FIT, CURVES]
    project.run()
    assert unchanged() == [] and project.plan().stale == []


def test_back_to_former_parameters_is_a_change_too(project: Project) -> None:
    project.parameters["toy.split"] = SplitConfig(seed=1)
    project.run()
    project.parameters = dict(PARAMETERS)
    assert project.plan().stale == [SPLIT, FIT, CURVES]


def test_what_changes_no_result_starts_nothing(project: Project) -> None:
    training = TrainingConfig(checkpoint_minutes=1, resume=False)
    project.parameters["toy.gmm"] = PARAMETERS["toy.gmm"].model_copy(update={"training": training})
    project.parameters["toy.experiment"] = PARAMETERS["toy.experiment"] | {"options": " --params seed=0"}
    assert project.plan().stale == []
    training = TrainingConfig(steps=7)
    project.parameters["toy.gmm"] = PARAMETERS["toy.gmm"].model_copy(update={"training": training})
    assert project.plan().stale == [FIT, CURVES]


def test_who_judges_counts_and_where_weights_of_a_known_hash_lie_does_not(tmp_path: Path) -> None:
    def key(**evaluation: Any) -> str | None:
        node = Node(evaluate_baselines, ["params:toy.evaluation"] * 7, "baselines", name="toy.evaluate_baselines")
        config = EvaluationConfig.model_validate(evaluation)
        catalog = DataCatalog({"params:toy.evaluation": MemoryDataset(config)})
        return node_key(node, catalog, lambda _: None)

    both = ["classifier", "dinov2"]
    (tmp_path / "model.safetensors").write_text("")
    source = {"source": str(tmp_path)}
    assert key() == key(inception={"download": True, "weights": "/elsewhere.pth"}) is not None
    assert key() != key(extractors=["classifier", "efficientnet_lite0"])
    before = key(extractors=both, dinov2=source)
    assert before == key(extractors=both, dinov2=source | {"download": True})
    (tmp_path / "model.safetensors").write_text("other weights")
    assert key(extractors=both, dinov2=source) != before


def test_a_default_written_out_is_no_change(project: Project) -> None:
    project.parameters["toy.generation"] = GenerationConfig(n=20, n_seeds=3)
    assert project.plan().stale == []


def test_force_runs_everything(project: Project, unchanged: Callable) -> None:
    project.parameters["force"] = True
    plan = project.plan()
    assert plan.stale == [SPLIT, FIT, CURVES] and plan.reused == {}
    model = project.root / "model"
    before = model.stat().st_mtime_ns
    project.run()
    assert unchanged() == [] and model.stat().st_mtime_ns > before


def test_a_deleted_output_is_made_again_but_not_what_hangs_on_it(project: Project, unchanged: Callable) -> None:
    (project.root / "validation_set.safetensors").unlink()
    assert project.plan().stale == [SPLIT, FIT, CURVES]
    project.run()
    assert unchanged() == sorted([FIT, CURVES]) and project.plan().stale == []


def test_a_damaged_output_is_made_again(project: Project) -> None:
    path = project.root / "model/tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert project.plan().stale == [FIT, CURVES]
    project.run()
    assert project.plan().stale == []
    (project.root / "curves.png").write_bytes(b"")
    assert project.plan().stale == [CURVES]


def test_an_input_changed_by_hand_starts_what_reads_it(project: Project, images: ImageSet) -> None:
    project.catalog().save("toy.raw", images.take(range(150)))
    assert project.plan().stale == [SPLIT, FIT, CURVES]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 3}'])
def test_a_record_that_cannot_be_read_is_none(project: Project, content: str) -> None:
    project.record(FIT).write_text(content)
    assert project.plan().stale == [FIT, CURVES]


class FullDisk(CheckedDataset):
    """Fails to save, as the last of several outputs."""

    def _write(self, path: Path, data: Any) -> None:
        raise OSError(28, "No space left on device")


def test_a_node_with_half_its_outputs_saved_is_not_done(project: Project) -> None:
    project.record(SPLIT).unlink()
    broken = FullDisk(str(project.root / "split.json"), JSON)
    with pytest.raises(Exception, match="No space left"):
        project.run(**{"toy.split_record": broken})
    assert not project.record(SPLIT).exists() and SPLIT in project.plan().stale


class Replaced(ImageSetDataset):
    """Is replaced by another run right after it was loaded."""

    def load(self) -> ImageSet:
        data = super().load()
        self.save(data.take(range(150)))
        return data


def test_a_result_of_data_that_were_replaced_meanwhile_does_not_count_as_that_of_the_new_ones(project: Project) -> None:
    project.record(SPLIT).unlink()
    project.run(**{"toy.raw": Replaced(str(project.root / "raw.safetensors"))})
    assert SPLIT in project.plan().stale
    project.run()
    assert project.plan().stale == []


def test_a_node_that_keeps_nothing_on_disk_always_runs(project: Project) -> None:
    for _ in range(2):
        project.run(**{"toy.split_record": MemoryDataset()})
        assert SPLIT in make_plan(PIPELINE, project.catalog(**{"toy.split_record": MemoryDataset()})).stale


def test_a_finished_training_leaves_no_checkpoints_in_the_way_of_the_next(project: Project) -> None:
    place = project.root / "checkpoints/step-000000010"
    place.mkdir(parents=True)
    project.run()
    assert place.exists()  # not this run's: the training was skipped
    project.parameters["seed"] = 1
    project.run()
    assert not place.exists()


def test_one_more_file_of_answers_is_heard(project: Project) -> None:
    hear = stages["human_results"].only_nodes("toy.hear_raters")
    columns = ColumnsConfig(shown="shown", said="said", rater="rater")
    project.parameters["toy.human_results"] = ResultsConfig(
        answers=project.root / "answers", columns=columns, exclude=ExclusionConfig(answers=None)
    )
    places = {"toy.human_key": "key.json", "toy.human_record": "human.json"}
    kept: dict[str, AbstractDataset] = {
        name: OptionalDataset(str(project.root / file), JSON) for name, file in places.items()
    }
    (project.root / "answers").mkdir()
    for n, rater in enumerate(("ann", "bob"), 1):
        (project.root / f"answers/{rater}.csv").write_text(f"shown,said,rater\nreal,real,{rater}\n")
        assert make_plan(hear, project.catalog(**kept)).stale == ["toy.hear_raters"]
        project.run(hear, **kept)
        assert kept["toy.human_record"].load()["n_raters"] == n
        assert make_plan(hear, project.catalog(**kept)).stale == []
    (project.root / "human.json").unlink()
    assert make_plan(hear, project.catalog(**kept)).stale == ["toy.hear_raters"]


def count_rows(history: Any) -> str:
    """A node's function that knows nothing of skipping."""
    return str(len(history))


def test_a_function_that_is_not_skippable_always_runs(project: Project, unchanged: Callable) -> None:
    pipeline = Pipeline([Node(count_rows, "toy.gmm.history", "toy.rows", name="count_rows")])
    rows = CheckedDataset(str(project.root / "rows.txt"), "text.TextDataset")
    for _ in range(2):
        project.run(pipeline, **{"toy.rows": rows})
        assert rows.load().isdigit() and unchanged() == []
        assert make_plan(pipeline, project.catalog(**{"toy.rows": rows})).stale == ["count_rows"]


def test_skippable_functions_answer_for_each_output_and_stay_what_they_were() -> None:
    assert nodes.fit(*[Skip(("a", "b", "c"))] * 6) == (Unchanged("a"), Unchanged("b"), Unchanged("c"))
    assert nodes.plot_curves(history=Skip(("a",))) == Unchanged("a")
    assert pickle.loads(pickle.dumps(nodes.fit)) is nodes.fit
    assert list(inspect.signature(nodes.fit).parameters)[:2] == ["train_set", "validation_set"]
    assert typing.get_type_hints(nodes.fit)["config"] is FamilyConfig
    assert "def fit(" in inspect.getsource(nodes.fit)


def test_every_node_of_the_project_can_be_skipped_but_those_that_ask_the_registry() -> None:
    for pipeline in stages.values():
        for node in pipeline.nodes:
            if any(name.endswith(".registry") for name in node.inputs):
                assert node.func not in SKIPPABLE, node.name
                continue
            skip = Skip(tuple(node.outputs))
            assert list(node.run(dict.fromkeys(node.inputs, skip)).values()) == [
                Unchanged(name) for name in node.outputs
            ]

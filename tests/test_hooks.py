import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from simulacra.errors import SimulacraError
from simulacra.hooks import ProjectHooks
from simulacra.metrics import pretrained
from simulacra.metrics.config import EfficientNetConfig
from simulacra.pipelines.config import EvaluationConfig


def began(config: object) -> None:
    """Let a run begin whose one node reads this block."""
    pipeline = Pipeline([Node(lambda block: block, "params:mnist.evaluation", "text", name="read")])
    ProjectHooks().before_pipeline_run(pipeline, DataCatalog({"params:mnist.evaluation": MemoryDataset(config)}))


def test_weights_are_fetched_before_the_first_node_and_a_failure_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(pretrained, "fetch", fetched.append)
    began(EvaluationConfig())
    assert fetched == []
    began(EvaluationConfig(extractors=["classifier", "efficientnet_lite0"]))
    assert fetched == [EfficientNetConfig()]

    def fail(_: object) -> None:
        raise SimulacraError("no network")

    monkeypatch.setattr(pretrained, "fetch", fail)
    with pytest.raises(SimulacraError, match="no network"):
        began(EvaluationConfig(extractors=["efficientnet_lite0"]))

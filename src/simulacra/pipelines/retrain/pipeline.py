"""Templates of the stages `watch` and `retrain`: once a dataset, and once a dataset and family."""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.evaluate.pipeline import JUDGING, TEXTS
from simulacra.pipelines.retrain.nodes import (
    decide_at_gate,
    draw_champion,
    enter,
    find_former,
    judge_champion,
    report_operations,
    take_over,
    watch,
)
from simulacra.pipelines.retrain.texts import draw_champion_texts, enter_texts, judge_champion_of_texts, watch_texts

SPLITS = ["train_set", "validation_set", "test_set"]
TEXT_SPLITS = ["train_texts", "validation_texts", "test_texts"]
GATE = ["gate_record", "gate_table", "gate_log"]
ABOUT = ["params:retraining", "params:experiment", "parameters"]


def create_watch_pipeline() -> Pipeline:
    """Return splits, registry → whether to train anew."""
    inputs = [*SPLITS, "registry", "decided", *ABOUT, "params:seed"]
    return Pipeline([Node(watch, inputs, ["retrain_decision", "watch_log"], name="watch", tags="watch")])


def create_former_pipeline() -> Pipeline:
    """Return registry, split_record → what a training begins from."""
    inputs = ["registry", "split_record", "params:retraining"]
    return Pipeline([Node(find_former, inputs, "former", name="find_former", tags="watch")])


def create_text_watch_pipeline() -> Pipeline:
    """Return the same of texts."""
    inputs = [*TEXTS, "registry", "decided", *ABOUT, "params:seed"]
    return Pipeline([Node(watch_texts, inputs, ["retrain_decision", "watch_log"], name="watch", tags="watch")])


def create_operations_pipeline(families: Sequence[str]) -> Pipeline:
    """Return registry, schedule, what was noted → the page of operations."""
    promoted = [f"{family}.promotion" for family in families]
    inputs = ["registry", "schedule", "params:experiment", "watch_log", "gate_log", *promoted]
    return Pipeline([Node(report_operations, inputs, "operations", name="report_operations", tags="operations")])


def create_drawing_pipeline() -> Pipeline:
    """Return registry → what the champion draws."""
    inputs = ["registry", "params:experiment", "parameters"]
    outputs = ["champion_drawn", "champion_drawing_record"]
    return Pipeline([Node(draw_champion, inputs, outputs, name="draw_champion", tags="draw_champion")])


def create_text_drawing_pipeline() -> Pipeline:
    """Return the same of texts."""
    inputs = ["registry", "params:experiment", "parameters"]
    outputs = ["champion_drawn_texts", "champion_drawing_record"]
    return Pipeline([Node(draw_champion_texts, inputs, outputs, name="draw_champion", tags="draw_champion")])


def create_dataset_pipeline(families: Sequence[str]) -> Pipeline:
    """Return registry → the champion's metrics; these and all challengers' → the gate's decision → version."""
    judged = ["registry", *JUDGING, "params:seed"]
    champion = Node(judge_champion, judged, "champion_record", name="judge_champion", tags="retrain")
    return Pipeline([champion, *_decisions(families, SPLITS)])


def create_dataset_text_pipeline(families: Sequence[str]) -> Pipeline:
    """Return the same of texts."""
    judged = ["registry", *TEXTS, "params:seed"]
    champion = Node(judge_champion_of_texts, judged, "champion_record", name="judge_champion", tags="retrain")
    return Pipeline([champion, *_decisions(families, TEXT_SPLITS)])


def _decisions(families: Sequence[str], splits: Sequence[str]) -> list[Node]:
    """Return everyone's metrics → the gate's decision → version."""
    decided = ["champion_record", "baselines", "retrain_decision", "split_record", "params:retraining"]
    decided += [f"{family}.challenger" for family in families]
    gate = Node(decide_at_gate, decided, GATE, name="decide_at_gate", tags="retrain")
    return [gate, *(_take_over(family, splits) for family in families)]


def create_family_pipeline() -> Pipeline:
    """Return what was measured of a family → challenger."""
    own = ["metrics", "training_record", "generation_cost", "verdict"]
    return Pipeline([Node(enter, own, "challenger", name="enter", tags="retrain")])


def create_family_text_pipeline() -> Pipeline:
    """Return the same of texts."""
    own = ["metrics", "training_record", "generation_cost"]
    return Pipeline([Node(enter_texts, own, "challenger", name="enter", tags="retrain")])


def _take_over(family: str, splits: Sequence[str]) -> Node:
    """Return gate_record, model → version; not in the family's namespace, on whose results the gate hangs."""
    own = [f"{family}.{name}" for name in ("model", "metrics", "training_record")]
    inputs = [*own, "gate_record", "registry", *splits, "split_record", *ABOUT]
    return Node(
        take_over, inputs, f"{family}.promotion", name=f"take_over_{family}", tags=["retrain", "promotion", family]
    )

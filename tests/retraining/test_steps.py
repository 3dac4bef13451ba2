import json
from pathlib import Path

import pytest

from simulacra.errors import SimulacraError
from simulacra.retraining.steps import Decision, decision_place, gate_place, read_decision, read_winner, steps


def test_a_tick_s_commands_are_those_of_kedro() -> None:
    found = steps("mnist", ["gmm", "vae"], ["python", "-m", "kedro"], ["--env", "gpu"])
    lines = [
        " ".join(step.command) for step in (found.watch, found.prepare, *found.families, found.retrain, found.page)
    ]
    run = "python -m kedro run --pipelines"
    assert lines == [
        f"{run} ingest,preprocess,watch --namespaces mnist --env gpu",
        f"{run} preprocess,evaluate,augment --namespaces mnist --env gpu --tags shared",
        f"{run} train,generate,evaluate,augment --namespaces mnist.gmm --env gpu --params training.resume=if_same",
        f"{run} train,generate,evaluate,augment --namespaces mnist.vae --env gpu --params training.resume=if_same",
        f"{run} retrain --namespaces mnist --env gpu",
        "python -m kedro schedule page mnist --env gpu",
    ]
    assert len({step.name for step in (found.watch, found.prepare, *found.families, found.retrain)}) == 5


def test_a_decision_is_read_from_the_dataset_s_reports(tmp_path: Path) -> None:
    place = decision_place(tmp_path, "mnist")
    assert place == tmp_path / "08_reporting/mnist/retrain_decision.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"dataset": "mnist", "retrain": True, "reasons": ["new data"], "families": ["gmm"]}))
    assert read_decision(place) == Decision(True, ("new data",), ("gmm",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"retrain": "no", "reasons": [], "families": []}',
        '{"retrain": true, "reasons": [], "families": ["--env"]}',
        '{"retrain": true, "reasons": null, "families": []}',
    ],
)
def test_what_is_no_decision_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "decision.json").write_text(text)
    with pytest.raises(SimulacraError, match=r"decision\.json does not say whether to retrain"):
        read_decision(tmp_path / "decision.json")


def test_a_decision_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError, match="does not say whether to retrain: FileNotFoundError"):
        read_decision(tmp_path / "decision.json")


def test_who_passed_the_gate_is_told_of_this_tick_only(tmp_path: Path) -> None:
    place = gate_place(tmp_path, "mnist")
    assert read_winner(place, "a tick") == ""
    place.parent.mkdir(parents=True)
    for winner, told in (("vae", "vae passed the gate"), (None, "none passed the gate")):
        place.write_text(json.dumps({"winner": winner, "key": "a tick"}))
        assert read_winner(place, "a tick") == told and read_winner(place, "another") == ""
    place.write_text("[")
    assert read_winner(place, "a tick") == ""

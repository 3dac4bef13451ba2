"""From what hooks see to what MLflow is told."""

from typing import Any

from simulacra.tracking.ledger import PARENT, Ledger

GMM, VAE = "mnist.gmm", "mnist.vae"


def told(*records: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Calls as (op, run, what) for a run of two families with two nodes each."""
    ledger = Ledger()
    opening = [{"op": "create", "run": run, "nodes": 2, "time": 1} for run in (PARENT, GMM, VAE)]
    for record in opening:
        assert ledger.calls(record) == [record]
    calls = [call for time, record in enumerate(records, start=10) for call in ledger.calls({"time": time} | record)]
    if not ledger.ended:
        calls += ledger.killed()
    return [(call["op"], call["run"], call.get("status") or call.get("tags")) for call in calls]


def begin(run: str, node: str) -> dict[str, Any]:
    return {"op": "begin", "run": run, "node": node}


def done(run: str, node: str) -> dict[str, Any]:
    return {"op": "done", "run": run, "node": node}


FINISHED = {"op": "end", "run": PARENT, "parent": "FINISHED", "children": "FINISHED"}
BROKEN = {"op": "end", "run": PARENT, "parent": "FAILED", "children": "KILLED", "error": "ValueError: why"}
GUILT = {"error": "ValueError: why"}


def test_a_family_is_finished_with_its_last_node() -> None:
    calls = told(begin(GMM, "a"), done(GMM, "a"), begin(GMM, "b"), done(GMM, "b"), FINISHED)
    assert calls == [("end", GMM, "FINISHED"), ("end", VAE, "FINISHED"), ("end", PARENT, "FINISHED")]


def test_a_node_that_is_reported_twice_counts_once() -> None:
    calls = told(begin(GMM, "a"), done(GMM, "a"), done(GMM, "a"), BROKEN)
    assert ("end", GMM, "KILLED") in calls


def test_the_guilty_child_alone_fails() -> None:
    failed = {"op": "failed", "run": VAE, "node": "c", "error": "ValueError: why"}
    calls = told(begin(GMM, "a"), done(GMM, "a"), done(GMM, "b"), begin(VAE, "c"), failed, BROKEN)
    assert calls == [
        ("end", GMM, "FINISHED"),
        ("batch", VAE, [*GUILT.items(), ("failed_node", "c")]),
        ("end", VAE, "FAILED"),
        ("end", PARENT, "FAILED"),
    ]


def test_a_node_that_began_and_never_ended_is_to_blame_where_kedro_names_none() -> None:
    calls = told(begin(GMM, "a"), done(GMM, "a"), begin(VAE, "c"), BROKEN)
    assert calls == [
        ("batch", VAE, [*GUILT.items(), ("failed_node", "c")]),
        ("end", VAE, "FAILED"),
        ("end", GMM, "KILLED"),
        ("end", PARENT, "FAILED"),
    ]


def test_a_failure_of_no_node_is_the_parents() -> None:
    assert told(BROKEN)[0] == ("batch", PARENT, list(GUILT.items()))


def test_a_run_without_an_end_was_killed_at_its_last_record() -> None:
    ledger = Ledger()
    ledger.calls({"op": "create", "run": PARENT, "nodes": 1, "time": 5})
    ledger.calls({"op": "begin", "run": PARENT, "node": "a", "time": 70})
    assert ledger.killed() == [{"op": "end", "run": PARENT, "status": "KILLED", "time": 70}]


def test_reused_nodes_are_named_together() -> None:
    reused = {"op": "reused", "run": GMM}
    calls = told(reused | {"node": "a"}, reused | {"node": "b"}, reused | {"node": "a"}, FINISHED)
    assert calls[:2] == [("batch", GMM, [("reused", "a")]), ("batch", GMM, [("reused", "a b")])]
    assert [op for op, _, _ in calls] == ["batch", "batch", "end", "end", "end"]


def test_splits_are_inputs_of_the_parent_and_of_the_datasets_families() -> None:
    ledger = Ledger()
    for run in (PARENT, GMM, "faces.gmm"):
        ledger.calls({"op": "create", "run": run, "nodes": 1, "time": 1})
    calls = ledger.calls({"op": "inputs", "run": PARENT, "dataset": "mnist", "inputs": [], "time": 2})
    assert [call["run"] for call in calls] == [PARENT, GMM]


def test_records_of_unknown_runs_and_kinds_and_empty_ones_say_nothing() -> None:
    ledger = Ledger()
    for record in (
        {},
        {"op": "header"},
        {"op": "later invention", "run": GMM},
        done(GMM, "a"),
        {"op": "batch", "run": GMM},
    ):
        assert ledger.calls(record) == []
    assert ledger.killed() == []

"""What a journal's records mean for MLflow: which run each concerns, and which runs they end, and how."""

from collections.abc import Iterator

from simulacra.tracking.journal import Record

PARENT = ""
"""Key of the parent run; the others have their namespace, `<dataset>.<family>`."""


class Ledger:
    """Follows a journal and turns each record into the calls that MLflow gets for it.

    Hooks of one run may live in several processes that know nothing of each other. So they write only what they see,
    and what follows from all of it together is found here: a family is finished when its last node is done, and where
    the run fails, those families failed that had a node begun and not done.
    """

    def __init__(self) -> None:
        self.ended = False
        self.time = 0
        self._open: dict[str, int] = {}
        self._closed: set[str] = set()
        self._joined: set[str] = set()
        self._running: dict[str, str] = {}
        self._done: set[str] = set()
        self._reused: dict[str, list[str]] = {}
        self._failed = False

    def calls(self, record: Record) -> list[Record]:
        """Return the calls that a record leads to, in order; their `op` is create, batch, file, dict, inputs or end."""
        follow = {
            "create": self._create,
            "batch": self._pass,
            "file": self._pass,
            "dict": self._pass,
            "inputs": self._inputs,
            "begin": self._begin,
            "reused": self._reuse,
            "done": self._finish_node,
            "failed": self._fail,
            "end": self._end,
        }.get(record.get("op", ""))
        self.time = record.get("time", self.time)
        return list(follow(record)) if follow else []

    def killed(self) -> list[Record]:
        """Return the calls that end what a killed process left open, at the time of its last record."""
        return self.calls({"op": "end", "parent": "KILLED", "children": "KILLED", "time": self.time})

    def _create(self, record: Record) -> Iterator[Record]:
        self._open[record["run"]] = record["nodes"]
        if "join" in record:
            self._joined.add(record["run"])
        yield record

    def _pass(self, record: Record) -> Iterator[Record]:
        if record["run"] in self._open or record["run"] in self._closed:
            yield record

    def _inputs(self, record: Record) -> Iterator[Record]:
        for run in (*self._open, *sorted(self._closed)):
            if run.split(".")[0] in (PARENT, record["dataset"]):
                yield record | {"run": run}

    def _begin(self, record: Record) -> Iterator[Record]:
        self._running[record["node"]] = record["run"]
        yield from ()

    def _reuse(self, record: Record) -> Iterator[Record]:
        names = self._reused.setdefault(record["run"], [])
        if record["node"] not in names:
            names.append(record["node"])
            yield from self._tags(record["run"], {"reused": " ".join(names)})

    def _finish_node(self, record: Record) -> Iterator[Record]:
        run, node = record["run"], record["node"]
        self._running.pop(node, None)
        if run in self._open and node not in self._done:
            self._done.add(node)
            self._open[run] -= 1
            if run != PARENT and self._open[run] == 0:
                yield from self._close(run, "FINISHED")

    def _fail(self, record: Record) -> Iterator[Record]:
        self._failed = True
        self._running.pop(record["node"], None)
        yield from self._tags(record["run"], {"error": record["error"], "failed_node": record["node"]})
        if record["run"] != PARENT:
            yield from self._close(record["run"], "FAILED")

    def _end(self, record: Record) -> Iterator[Record]:
        self.ended = True
        if "error" in record:
            for node, run in list(self._running.items()):
                yield from self._fail({"run": run, "node": node, "error": record["error"]})
            if not self._failed:
                yield from self._tags(PARENT, {"error": record["error"]})
        for run in [run for run in self._open if run != PARENT]:
            yield from self._close(run, record["children"])
        yield from self._close(PARENT, record["parent"])

    def _tags(self, run: str, tags: dict[str, str]) -> Iterator[Record]:
        yield from self._pass({"op": "batch", "run": run, "tags": list(tags.items())})

    def _close(self, run: str, status: str) -> Iterator[Record]:
        if self._open.pop(run, None) is not None:
            self._closed.add(run)
            joined = {"joined": True} if run in self._joined else {}
            yield {"op": "end", "run": run, "status": status, "time": self.time, **joined}

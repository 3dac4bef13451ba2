"""Retraining that is killed at random moments: what becomes of the champion, and of the next tick.

    python benchmarks/kills.py [--kills 20] [--seed 0] [--between 0 1] [--families gmm]

In a copy of the project, on fabricated pictures, a poorly trained VAE becomes the first champion. Then, for each kill,
it is made champion again by hand, the pictures change, and `kedro schedule run-now` begins a tick, which left alone
ends with another model's taking over. At a moment drawn evenly from how long such a tick took before, it and all
processes that it has started are killed by SIGKILL. After that:

- the champion is the one before or the new one, and a process that knows nothing of this loads it and draws from it;
- the next tick ends by itself with exit code 0;
- whoever is champion then, `previous` is the one before it;
- nothing is registered twice: no two versions have the same weights under the same passport.

Ends with exit code 1 where any of that does not hold.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
import yaml

from simulacra.experiments import project_root
from simulacra.retraining.ledger import Ledger
from simulacra.retraining.registry import Registry
from simulacra.retraining.tick import last_line
from simulacra.tracking.config import TrackingConfig

COPIED = ("conf", "src", "pyproject.toml", ".telemetry")
DATASET = "mnist"
IMAGES = 300
LONGEST = 50
"""Characters of what a process had said last."""

GRACE = 20.0
"""Seconds that a killed process may still be listed."""

DRAW = """
import sys
from pathlib import Path
from simulacra.retraining.registry import Registry
from simulacra.tracking.config import TrackingConfig

settings = TrackingConfig.model_validate_json(sys.argv[2])
registry = Registry(settings, Path(sys.argv[1]), sys.argv[3])
champion = registry.need_champion()
registry.check(champion)
assert len(registry.model(champion).sample(2, seed=0)) == 2
print(champion.number)
"""


class Row(NamedTuple):
    """What came of one kill."""

    moment: float
    at: str
    before: int
    killed: str
    after: str
    seconds: float
    faults: tuple[str, ...]


class Project:
    """A copy of the project in a folder of its own, in the environment `test`.

    Args:
        place: the folder.
    """

    def __init__(self, place: Path) -> None:
        for part in COPIED:
            source = project_root() / part
            if source.is_dir():
                shutil.copytree(
                    source, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
                )
            else:
                shutil.copy(source, place / part)
        self.place, self.data_root = place, place / "data/test"
        self.settings = TrackingConfig(tracking_uri=f"sqlite:///{self.data_root}/mlflow.db")
        self._parameters = yaml.safe_load((place / "conf/test/parameters.yml").read_text())
        (place / "conf/local").mkdir()
        (place / "conf/test/experiments.yml").write_text(f"{DATASET}:\n  families: [vae, gmm, naive_bayes]\n")
        schedule = {"datasets": {DATASET: {"back_off": 0.5}}, "patience": 5}
        (place / "conf/test/schedule.yml").write_text(yaml.safe_dump(schedule))
        # The project's own code, whatever is installed, and no settings of whoever runs this.
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))}
        self.environment = clean | {"PYTHONPATH": str(place / "src")}

    def registry(self) -> Registry:
        """Return the registry as this process sees it."""
        return Registry(self.settings, self.place, DATASET)

    def set_up(self, families: list[str], seed: int) -> None:
        """Let the next tick find other pictures, and train these families."""
        asked = {
            "families": families,
            # So short a training of a VAE collapses, which a sentinel would else refuse.
            "gate": {"refusing_flags": ["diverges"], "refusing_verdicts": []},
        }
        block = self._parameters[DATASET]
        source = block["source"] | {"n": IMAGES, "seed": seed}
        changed = {"source": source, "split": {"by": "content"}, "retraining": asked}
        whole = self._parameters | {
            DATASET: block | changed,
            "generation": self._parameters["generation"] | {"n_seeds": 3},
        }
        (self.place / "conf/test/parameters.yml").write_text(yaml.safe_dump(whole))

    @contextmanager
    def tick(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Begin a tick; what is left of it at the end is killed."""
        command = [sys.executable, "-m", "kedro", "schedule", "run-now", DATASET, "--env", "test"]
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603
                command, cwd=self.place, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        try:
            yield process
        finally:
            kill(process)

    def whole_tick(self, log: Path) -> tuple[int, float]:
        """Return the exit code of a tick that nobody kills, and the seconds that it took."""
        began = time.perf_counter()
        with self.tick(log) as process:
            code = process.wait()
        return code, time.perf_counter() - began

    def draw(self) -> str:
        """Return the number of the champion that another process has loaded and drawn from, or what went wrong."""
        command = [sys.executable, "-c", DRAW, str(self.place), self.settings.model_dump_json(), DATASET]
        done = subprocess.run(  # noqa: S603
            command, cwd=self.place, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else f"no champion: {done.stderr.strip()[-200:]}"

    def working_on(self) -> str:
        """Return the step of the last tick that was not over, and the last that it had said."""
        ledger = Ledger(self.data_root / ".simulacra/schedule/ledger.db")
        ticks = ledger.ticks(1)
        if not ticks or ticks[0].status != "running":
            return "no tick"
        running = [name for name, step in ledger.steps(ticks[0]).items() if step["status"] == "running"]
        if not running:
            return "between steps"
        folder = re.sub(r"[^\w-]+", "_", ticks[0].key)
        log = self.data_root / ".simulacra/schedule/logs" / folder / f"{running[0].replace(' ', '_')}.log"
        said = re.sub(r"^[\d:]+ \w+ +|\|", "", last_line(log)) if log.exists() else "begins"
        return f"{running[0]}: {said[:LONGEST]}"


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it, as a machine does that loses its power."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    # Whoever is stopped begins no further process, and notices nobody's end.
    for act in ("suspend", "kill"):
        for each in family:
            try:
                getattr(each, act)()
            except psutil.NoSuchProcess:
                continue
    process.wait()
    psutil.wait_procs(family, GRACE)


def one_kill(project: Project, number: int, families: list[str], moment: float, logs: Path) -> Row:
    """Return what came of killing a tick at a moment, seconds after it began."""
    registry = project.registry()
    before = registry.promote(1).number
    there = {version.number for version in registry.history()}
    project.set_up(families, seed=1000 + number)
    ledger = Ledger(project.data_root / ".simulacra/schedule/ledger.db")
    former = ledger.ticks(1)[0].key
    with project.tick(logs / f"{number}-killed.log") as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            kill(process)
    ended = process.returncode >= 0
    begun = ledger.ticks(1)[0].key != former
    at = "it had ended" if ended else project.working_on() if begun else "before the tick"
    faults = [] if process.returncode in (0, -9) else [f"the tick itself ended with {process.returncode}"]
    killed = project.draw()
    new = {str(version.number) for version in registry.history() if version.number not in there}
    if killed not in {str(before), *new}:
        faults.append(f"after the kill: {killed}")
    code, seconds = project.whole_tick(logs / f"{number}-next.log")
    if code:
        faults.append(f"the next tick ended with {code}")
    after = project.draw()
    faults += state_faults(project, before, after, there)
    return Row(moment, at, before, killed, after, seconds, tuple(faults))


def state_faults(project: Project, before: int, after: str, there: set[int]) -> list[str]:
    """Return what is wrong with the registry after the tick that followed a kill."""
    faults, registry = [], project.registry()
    versions = registry.history()
    new = [version for version in versions if version.number not in there]
    if after not in {str(before), *(str(version.number) for version in new)}:
        faults.append(f"after the next tick: {after}")
    if len(new) > 1:
        faults.append(f"{len(new)} new versions")
    known = Counter((version.model_sha256, version.passport_id) for version in versions)
    faults += [f"registered {n} times: {sha256[:12]}" for (sha256, _), n in known.items() if n > 1]
    previous = registry.previous()
    if after != str(before) and (previous is None or previous.number != before):
        faults.append(f"previous is {previous and previous.number}, not {before}")
    return faults


def prepare(project: Project, families: list[str], logs: Path) -> float:
    """Make a first champion, and return the seconds of a tick by which another model takes over."""
    project.set_up(["vae"], seed=0)
    code, _ = project.whole_tick(logs / "first.log")
    if code or project.draw() != "1":
        sys.exit(f"there is no first champion: {(logs / 'first.log').read_text()[-2000:]}")
    project.set_up(families, seed=999)
    code, seconds = project.whole_tick(logs / "second.log")
    if code or project.draw() == "1":
        sys.exit(f"nobody takes over from the first champion: {(logs / 'second.log').read_text()[-2000:]}")
    return seconds


def main() -> None:
    """Print a row a kill, and what does not hold."""
    options = _arguments()
    moments = random.Random(options.seed)  # noqa: S311  # no secret
    with TemporaryDirectory() as scratch:
        logs = Path(scratch) / "logs"
        logs.mkdir()
        project = Project(Path(scratch) / "project")
        usual = prepare(project, options.families, logs)
        print(f"a tick by which another model takes over: {usual:.0f} s\n")
        print("| kill | after, s | while | champion | after the kill | after the next tick | next tick, s | faults |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        rows = []
        for number in range(1, options.kills + 1):
            moment = usual * moments.uniform(*options.between)
            row = one_kill(project, number, options.families, moment, logs)
            cells = (row.at, row.before, row.killed, row.after, f"{row.seconds:.0f}", "; ".join(row.faults) or "none")
            print(f"| {number} | {moment:.1f} | {' | '.join(map(str, cells))} |", flush=True)
            rows.append(row)
        faulty = sum(bool(row.faults) for row in rows)
        moved = sum(row.after != str(row.before) for row in rows)
        print(f"\n{len(rows)} kills, {faulty} with faults; {moved} of the next ticks left a new champion")
        if faulty and options.keep:
            shutil.copytree(scratch, options.keep, symlinks=True)
            print(f"project and logs are in {options.keep}")
    sys.exit(1 if faulty else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--between", type=float, nargs=2, default=(0, 1), help="shares of a tick's time that moments lie between"
    )
    parser.add_argument("--families", nargs="+", default=["gmm"], help="trained by each tick")
    parser.add_argument("--keep", type=Path, help="new folder for project and logs, where anything does not hold")
    return parser.parse_args()


if __name__ == "__main__":
    main()

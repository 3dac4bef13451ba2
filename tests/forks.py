"""Runs kedro commands as forks of a process that has imported their libraries, half the time of a short command.

Started as a program, it reads a command a line as JSON from its standard input, and answers with the exit code. What it
imports are libraries alone: Kedro and the project look into the folder that they are imported in.
"""

import gc
import json
import os
import runpy
import signal
import sys
from importlib import import_module
from typing import Any

LIBRARIES = (
    "alembic.migration",
    "filelock",
    "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "pandas",
    "sklearn.cluster",
    "torch",
)
LIMIT = 300
"""Seconds that a command may take."""


def preload() -> None:
    """Import what most commands do, and leave it out of their searches for garbage."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name in LIBRARIES:
        import_module(name)
    gc.collect()
    gc.freeze()


def become(asked: dict[str, Any]) -> None:
    """Turn this process into `python -m kedro` in a folder and an environment, with files in place of a terminal."""
    signal.alarm(LIMIT)
    for number, path in enumerate((os.devnull, asked["stdout"], asked["stderr"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["kedro", *asked["arguments"]]
    sys.path[0] = asked["cwd"]
    runpy.run_module("kedro", run_name="__main__", alter_sys=True)


def main() -> None:
    """Fork for one command after the other, until nobody asks any more."""
    preload()
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            return become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()

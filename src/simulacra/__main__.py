"""Run the packaged project: `python -m simulacra --conf-source=…`."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.project import configure_project

from simulacra.cli import cli


def main(*args: Any, **kwargs: Any) -> Any:
    """Run `run`; Kedro's packaging calls this as the entry point."""
    configure_project(Path(__file__).parent.name)
    return cli.commands["run"].main(*args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())

"""Where the project keeps what it knows of its own runs: with the data that they are about."""

import os
from pathlib import Path

STATE = "SIMULACRA_STATE"
"""Environment variable that tells worker processes where the records of done nodes and the locks lie."""


def state_folder() -> Path:
    """Return the folder of records and locks."""
    return Path(os.environ[STATE])

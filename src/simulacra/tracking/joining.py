"""One parent run for several `kedro run`: those that are given the same key by an environment variable join it."""

import hashlib
import json
import logging
import os
import re
from pathlib import Path

from simulacra.files import write_record
from simulacra.state import state_folder

logger = logging.getLogger(__name__)

PARENT_RUN = "SIMULACRA_PARENT_RUN"
"""Environment variable with the key; it is the parent's name, and no other parent of the experiment may have it."""

KEYS = re.compile(r"\w[\w .:+-]{0,199}", re.ASCII)


def parent_key() -> str | None:
    """Return the key of the parent that this process's run is to join; None where it has a parent of its own."""
    key = os.environ.get(PARENT_RUN, "")
    if key and not KEYS.fullmatch(key):
        logger.warning(
            "%s is %r; a key has letters, digits, blanks and _.:+- only, so this run has a parent of its own",
            PARENT_RUN,
            key[:200],
        )
        return None
    return key or None


def note_joined(root: Path, key: str, run: str) -> None:
    """Note which run MLflow has for a key, beside the journals, for whoever gave the key."""
    write_record(_place(root, key), {"key": key, "run": run})


def joined_run(root: Path, key: str) -> str | None:
    """Return MLflow's id of the parent with this key; None where no run has sent anything for it yet."""
    try:
        return str(json.loads(_place(root, key).read_text())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def parent_run() -> str | None:
    """Return MLflow's id of the parent that this process's run is to join, where it is known already."""
    key = parent_key()
    return joined_run(state_folder() / "tracking", key) if key else None


def forget_joined(root: Path, key: str) -> None:
    """Remove the note."""
    _place(root, key).unlink(missing_ok=True)


def _place(root: Path, key: str) -> Path:
    return root / "joined" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

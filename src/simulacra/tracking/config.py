"""What mlflow.yml says: where runs are tracked, and how long a server may keep a run waiting."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulacra.errors import SimulacraError

SQLITE = "sqlite:///"

TRACKING = "SIMULACRA_TRACKING"
"""Environment variable that tells a run's processes the project's folder and, on a line of its own, mlflow.yml."""

CREDENTIALS = re.compile(r"://(?:[^\s/:@]+:(?!\d+[/?])[^\s?]*|[^\s/?#]*)@")
"""User and password in a URI; also one that is none, as its password has a slash that was not quoted."""

QUERY = re.compile(r"\?[^\s'\")\]]+")
"""The query of a URI: some stores take a password or a token there."""


class TrackingConfig(BaseModel):
    """The content of mlflow.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: str = Field("sqlite:///mlflow.db", description="store; MLFLOW_TRACKING_URI comes before it")
    experiment: str = Field("simulacra", min_length=1, max_length=500, description="MLflow experiment of all runs")
    timeout: int = Field(5, ge=1, description="seconds that a server may take to answer one call")
    wait: int = Field(20, ge=0, description="seconds that a run waits at its end while nothing gets on")

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "TrackingConfig":
        """Return the checked content, with MLFLOW_TRACKING_URI in its place where it is set.

        Raises:
            SimulacraError: for an unknown key or a wrong type; names it.
        """
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise SimulacraError(f"mlflow.yml: {wrong}; it has the keys {', '.join(cls.model_fields)}") from error
        return config.model_copy(update={"tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or config.tracking_uri})

    @property
    def public_uri(self) -> str:
        """The tracking URI without what is secret in it: user, password and query.

        Example:
            >>> TrackingConfig(tracking_uri="https://me:secret@mlflow.example/team?key=1").public_uri
            'https://mlflow.example/team'
        """
        return without_secrets(self.tracking_uri)

    def database(self, project: Path) -> Path | None:
        """Return the sqlite file, which lies in the project where its path is relative; None for any other store."""
        if not self.tracking_uri.startswith(SQLITE):
            return None
        return project / self.tracking_uri.removeprefix(SQLITE).split("?")[0]

    def address(self, project: Path) -> str:
        """Return the tracking URI as MLflow is to have it: of a sqlite file with its whole path.

        Example:
            >>> TrackingConfig(tracking_uri="sqlite:///mlflow.db?timeout=9").address(Path("/home/me/project"))
            'sqlite:////home/me/project/mlflow.db?timeout=9'
        """
        database, (_, mark, query) = self.database(project), self.tracking_uri.partition("?")
        return self.tracking_uri if database is None else f"{SQLITE}{database}{mark}{query}"


def without_secrets(text: str) -> str:
    """Return a text without what is secret in its URIs: user, password and query.

    Example:
        >>> without_secrets("no answer from http://me:secret@host:5000/api?token=1 in 5 s")
        'no answer from http://host:5000/api in 5 s'
    """
    return QUERY.sub("", CREDENTIALS.sub("://", text))

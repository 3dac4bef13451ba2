"""mlflow.yml."""

from pathlib import Path

import pytest

from simulacra.errors import SimulacraError
from simulacra.tracking import TrackingConfig


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert TrackingConfig.parse({"tracking_uri": "sqlite:///here.db"}).tracking_uri == "http://elsewhere:5000"


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(SimulacraError, match="experimnt"):
        TrackingConfig.parse({"experimnt": "mine"})


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("postgresql://me:pass@host:5432/runs?sslmode=require", "postgresql://host:5432/runs"),
        ("https://token@host/", "https://host/"),
        ("sqlite:///data/a@b/mlflow.db", "sqlite:///data/a@b/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_secrets_stay_out_of_the_public_uri(uri: str, public: str) -> None:
    assert TrackingConfig(tracking_uri=uri).public_uri == public


def test_a_relative_database_lies_in_the_project() -> None:
    place = Path("/project")
    assert TrackingConfig(tracking_uri="sqlite:///a/b.db").database(place) == place / "a/b.db"
    assert TrackingConfig(tracking_uri="sqlite:////a/b.db").database(place) == Path("/a/b.db")
    assert TrackingConfig(tracking_uri="http://host").database(place) is None

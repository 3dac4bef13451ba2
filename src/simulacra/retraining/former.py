"""Where a training begins: at the champion's weights, or at none."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from simulacra.files import write_record
from simulacra.models import load_model

if TYPE_CHECKING:
    from simulacra.models.base import GenerativeModel
    from simulacra.retraining.registry import Registry, Version

MODEL = "model"
VERSION = "version.json"


class Former(NamedTuple):
    """The registered model that today's training begins from; without one it begins anew.

    Args:
        version: its number in the registry.
        model: the model itself, of any family.
    """

    version: int | None = None
    model: "GenerativeModel[Any] | None" = None

    def save(self, folder: Path) -> None:
        """Write into an existing, empty folder."""
        write_record(folder / VERSION, {"version": self.version})
        if self.model is not None:
            (folder / MODEL).mkdir()
            self.model.save(folder / MODEL)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import json

        number = json.loads((folder / VERSION).read_text())["version"]
        return cls(number, None if number is None else load_model(folder / MODEL))


def former_of(registry: "Registry", train_sha256: str) -> Former:
    """Return what a training on today's data begins from: the champion, or what that itself began from.

    The latter where the champion was fitted to the same data, so that the same data and settings give the same model
    before and after its promotion, and nothing is trained longer by being asked for twice.

    Args:
        registry: of the dataset.
        train_sha256: fingerprint of today's training split.
    """
    version: Version | None = registry.champion()
    if version is not None and version.train_sha256 == train_sha256:
        number = registry.record(version).get("training", {}).get("begun_from_version")
        version = next((each for each in registry.history() if each.number == number), None)
    return Former() if version is None else Former(version.number, registry.model(version))

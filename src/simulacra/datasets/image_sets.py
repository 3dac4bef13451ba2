"""Image sets as one safetensors file."""

import json
import os
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError


class ImageSetDataset(AbstractDataset[ImageSet, ImageSet]):
    """Keeps pixels and labels as tensors and the class names in the header.

    Args:
        filepath: where the file lies.
        metadata: what other tools, such as kedro-viz, want to know; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> ImageSet:
        """Return the images.

        Raises:
            SimulacraError: where the file is missing or not whole.
        """
        from safetensors import SafetensorError, safe_open

        if not self._filepath.is_file():
            raise SimulacraError(f"{self._filepath} is not there yet; run the stage that makes it first")
        try:
            with safe_open(self._filepath, "numpy") as file:
                class_names = tuple(json.loads(file.metadata()["class_names"]))
                labels = file.get_tensor("labels") if "labels" in file.keys() else None
                return ImageSet(file.get_tensor("images"), labels, class_names)
        except SafetensorError as error:
            raise SimulacraError(
                f"{self._filepath} is damaged ({error}); delete it and run the stage that makes it again"
            ) from error

    def save(self, data: ImageSet) -> None:
        """Write the file beside its place and rename it."""
        from safetensors.numpy import save_file

        tensors = {"images": data.images} | ({} if data.labels is None else {"labels": data.labels})
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._filepath.with_name(f".{self._filepath.name}.{os.getpid()}")
        save_file(tensors, scratch, metadata={"class_names": json.dumps(data.class_names)})
        scratch.replace(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return self._filepath.is_file()

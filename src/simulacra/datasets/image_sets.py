"""Image sets as one safetensors file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from simulacra.datasets.base import SealedDataset

if TYPE_CHECKING:
    from simulacra.data.image_set import ImageSet


class ImageSetDataset(SealedDataset["ImageSet"]):
    """Keeps pixels and labels as tensors and the class names in the header."""

    def _read(self, path: Path) -> "ImageSet":
        from safetensors import safe_open

        from simulacra.data.image_set import ImageSet

        with safe_open(path, "numpy") as file:
            class_names = tuple(json.loads(file.metadata()["class_names"]))
            labels = file.get_tensor("labels") if "labels" in file.keys() else None
            return ImageSet(file.get_tensor("images"), labels, class_names)

    def _write(self, path: Path, data: "ImageSet") -> None:
        from safetensors.numpy import save_file

        tensors = {"images": data.images} | ({} if data.labels is None else {"labels": data.labels})
        save_file(tensors, path, metadata={"class_names": json.dumps(data.class_names)})

    def _need(self, data: "ImageSet") -> int:
        return data.images.nbytes + (0 if data.labels is None else data.labels.nbytes)

"""Texts as a folder that may be larger than memory: all of them in one file of UTF-8, and where each lies in it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from simulacra.datasets.base import SealedDataset

if TYPE_CHECKING:
    from simulacra.data.text_set import TextSet


class TextSetDataset(SealedDataset["TextSet"]):
    """Keeps documents one after the other in `documents.txt`, and where each begins and ends in `spans.npy`."""

    def _read(self, path: Path) -> "TextSet":
        import numpy as np

        from simulacra.data.text_set import FileBytes, TextSet

        alphabet = json.loads((path / "facts.json").read_text())["alphabet"]
        return TextSet(FileBytes(path / "documents.txt"), np.load(path / "spans.npy", allow_pickle=False), alphabet)

    def _write(self, path: Path, data: "TextSet") -> None:
        import numpy as np

        path.mkdir()
        with (path / "documents.txt").open("wb") as file:
            for _, part in data.parts():
                file.write(part)
        ends = np.cumsum(data.spans[:, 1] - data.spans[:, 0])
        np.save(path / "spans.npy", np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1), allow_pickle=False)
        (path / "facts.json").write_text(json.dumps({"alphabet": data.alphabet}))

    def _need(self, data: "TextSet") -> int:
        return data.n_bytes + data.spans.nbytes

"""Files of weights that were published: found, checked by sha256 before anything is made of them, and put in place."""

import functools
import hashlib
import io
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.request import urlopen

from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

STALL = 60.0
"""Seconds that a server may say nothing before a download is given up."""


class Published(NamedTuple):
    """A file that all the world has.

    Attributes:
        title: what it holds.
        sha256: how its hash begins.
        key: which key of the configuration says where it is.
        url: where it can be downloaded, if anywhere.
        size: of the download, in words.
    """

    title: str
    sha256: str
    key: str
    url: str = ""
    size: str = ""


Network = TypeVar("Network", bound="nn.Module")


def existing(path: Path, published: Published) -> Path:
    """Return the path that a configuration names, after refusing what is no file.

    Raises:
        SimulacraError: where nothing is there, or a folder; names the key.
    """
    path = path.expanduser()
    if not path.is_file():
        fault = "is a folder, and not the file of weights itself" if path.is_dir() else "is not there"
        raise SimulacraError(f"{path} {fault}; correct {published.key}")
    return path


def refuse_damaged(path: Path, published: Published) -> None:
    """Refuse a file before the run begins; whoever knows of it may ask, it is read only once.

    Raises:
        SimulacraError: where it cannot be read, or is not the one that was published.
    """
    stat = path.stat()
    _refuse_other(path, _sha256(path, stat.st_size, stat.st_mtime_ns), published)


def read(path: Path, published: Published) -> "tuple[dict[str, Tensor], str]":
    """Return the tensors of a file and its sha256; nothing is made of its bytes before their hash is known.

    Raises:
        SimulacraError: as `refuse_damaged`.
    """
    import torch

    content = _bytes(path)
    sha256 = hashlib.sha256(content).hexdigest()
    _refuse_other(path, sha256, published)
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)), sha256


def filled(
    build: Callable[[], Network], tensors: "Mapping[str, Tensor]", path: Path, *, in_order: bool = False
) -> Network:
    """Return a network that has these tensors.

    Args:
        build: makes the network.
        tensors: by the network's names; how many batches a normalisation has seen may be left out.
        path: where they come from, for the message.
        in_order: whether the file has names of its own, for the same tensors in the same order.

    Raises:
        SimulacraError: where names or shapes are not the network's.
    """
    import torch

    # Without numbers of its own: they would take time, and come out of the global generator.
    with torch.device("meta"):
        network = build()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    counters = {name: torch.tensor(0) for name in shapes if name.endswith("num_batches_tracked")}
    if in_order and len(tensors) == len(shapes):
        tensors = dict(zip(shapes, tensors.values(), strict=True))
    given = counters | dict(tensors)
    wrong = [name for name in {**shapes, **given} if name not in given or given[name].shape != shapes.get(name)]
    if wrong:
        raise SimulacraError(
            f"{path} holds the weights of another network: {len(wrong)} tensors are missing, too many or of another "
            f"shape, the first of them {wrong[0]}; replace it"
        )
    network.load_state_dict(given, assign=True)
    return network


def download(path: Path, published: Published) -> None:
    """Fetch a file to its place, whole and with the hash that it should have, or not at all.

    Raises:
        SimulacraError: where it cannot be fetched or is another.
    """
    logger.info(
        "%s are not on this machine: fetching %s from %s to %s", published.title, published.size, published.url, path
    )
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(published.url, part)
        _refuse_other(part, hashlib.sha256(_bytes(part)).hexdigest(), published)
        part.replace(path)
    except (OSError, SimulacraError) as error:
        reason = " ".join(str(error).split())
        raise SimulacraError(
            f"{published.title} ({published.size}) could not be downloaded from {published.url} ({reason}): try again, "
            f"or put the file there by hand, as {path}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, place: Path) -> None:
    """Write what an address holds to a file, with a bar that says how far it is."""
    from tqdm import tqdm

    with urlopen(url, timeout=STALL) as answer, place.open("wb") as file:  # noqa: S310 - whose url is in this project
        size = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm.wrapattr(answer, "read", total=size, desc=place.stem, unit="B", unit_scale=True) as counted:
            shutil.copyfileobj(counted, file)


def _refuse_other(path: Path, sha256: str, published: Published) -> None:
    if not sha256.startswith(published.sha256):
        raise SimulacraError(
            f"{path} is damaged, or does not hold {published.title}: its sha256 begins with {sha256[:8]} where "
            f"{published.sha256[:8]} was expected; replace it, or correct {published.key}"
        )


@functools.lru_cache
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    return hashlib.sha256(_bytes(path)).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SimulacraError(f"{path} cannot be read: {error.strerror or error}") from error

"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193) as an extractor (Stein et al. 2023, arXiv:2306.04675)."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulacra.errors import SimulacraError
from simulacra.metrics.config import Dinov2Config

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

WHOLE = ("model.safetensors", "model.safetensors.index.json")
"""Of these a model has one: weights in one file, or the list of those that they are spread over."""
WEIGHTS = ("*.safetensors", WHOLE[1])


def located(config: Dinov2Config) -> str:
    """Return where the model lies, as `from_pretrained` takes it.

    Raises:
        SimulacraError: for a missing extra or folder, weights that only pickle could read, and a name whose model is
            not on this machine and may not be fetched.
    """
    if find_spec("transformers") is None:
        raise SimulacraError(
            "the extractor dinov2 needs transformers, which the extra text brings: run "
            '`pip install -c requirements.lock -e ".[text]"`'
        )
    place = Path(config.source).expanduser()
    if place.is_dir():
        if not list(place.glob("*.safetensors")):
            raise SimulacraError(
                f"{place} has no safetensors; correct evaluation.dinov2.source, or convert its weights"
            )
        return str(place)
    if place.exists() or place.is_absolute() or config.source.startswith(("~", ".")):
        fault = "is a file, and not the folder of a model" if place.exists() else "is not there"
        raise SimulacraError(f"{place} {fault}; correct evaluation.dinov2.source")
    if not config.download and not _is_cached(config.source):
        raise SimulacraError(
            f"{config.source} is not on this machine: set evaluation.dinov2.download=true to fetch it from the Hugging "
            "Face hub, or evaluation.dinov2.source to a folder that has it"
        )
    return config.source


def fetch(config: Dinov2Config) -> None:
    """Bring the model to this machine where it is not yet there.

    Raises:
        SimulacraError: as `located`, and where the hub cannot be reached or knows no such model.
    """
    name = located(config)
    if Path(name).is_dir() or _is_cached(name):
        return
    from huggingface_hub import snapshot_download

    try:
        logger.info("%s is not on this machine: fetching %s from the Hugging Face hub", name, _size(name))
        snapshot_download(name, allow_patterns=["config.json", *WEIGHTS])
    except Exception as error:  # what the network does comes as errors without a common class
        raise _unusable(config, error, "check name and network") from error


def load(config: Dinov2Config) -> "tuple[nn.Module, str]":
    """Return the network and its weights' sha256, that of `weights_sha256`: there are several sizes, and no one file.

    Raises:
        SimulacraError: as `fetch`, and where the model cannot be read, is no DINOv2, or has other weights than the
            configuration asks for.
    """
    from simulacra.metrics.features import weights_sha256
    from simulacra.nn.class_token import ClassToken

    fetch(config)
    model = _read(config)
    kind = str(model.config.model_type)
    if not kind.startswith("dinov2"):
        raise SimulacraError(f"evaluation.dinov2.source {config.source} is of the kind {kind}, no DINOv2; correct it")
    sha256 = weights_sha256(model)
    if not sha256.startswith(config.sha256):
        raise SimulacraError(
            f"evaluation.dinov2.source {config.source} is damaged or another: the sha256 of its weights begins with "
            f"{sha256[:8]} where evaluation.dinov2.sha256 asks for {config.sha256[:8]}; replace it"
        )
    return ClassToken(model), sha256


def _read(config: Dinov2Config) -> Any:
    """Return the model in float32, and never by pickle."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as library

    # Its own bars and hints would stand between those of the run.
    library.set_verbosity_error()  # type: ignore[no-untyped-call]
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return AutoModel.from_pretrained(
            located(config), dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # what files do to it comes as errors without a common class
        raise _unusable(config, error, "give another folder or name") from error


def _unusable(config: Dinov2Config, error: Exception, remedy: str) -> SimulacraError:
    reason = " ".join(str(error).split())[:200]
    return SimulacraError(
        f"evaluation.dinov2.source {config.source} cannot be had: {remedy} (the library said: {reason})"
    )


def _is_cached(name: str) -> bool:
    """Tell whether the hub's own folder on this machine has a model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config, *weights = (isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", *WHOLE))
    except HFValidationError as error:
        raise SimulacraError(f"evaluation.dinov2.source {name!r} is no name of a model; correct it") from error
    return config and any(weights)


def _size(name: str) -> str:
    """Return in words how large a download is."""
    from huggingface_hub import HfApi

    files = HfApi().model_info(name, files_metadata=True).siblings or []
    return f"{sum(each.size or 0 for each in files if each.rfilename.endswith('.safetensors')) / 2**20:,.0f} MiB"

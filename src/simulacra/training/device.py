"""Where and in which arithmetic to train: the meaning of `auto`."""

from contextlib import AbstractContextManager, nullcontext

import torch

from simulacra.errors import SimulacraError
from simulacra.training.config import TrainingConfig
from simulacra.training.trainable import Trainable


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        SimulacraError: where the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise SimulacraError(f"training.device is {name}, which this machine does not have; use auto or cpu")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device, module: Trainable) -> str:
    """Return `fp32` or `bf16`.

    `auto` looks at what the device is, not at a stopwatch: a timed choice could differ between two runs, and with it
    every sample. A CPU qualifies by its bf16 instructions, and only for modules that were measured to gain by them.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if device.type == "cpu" and able and module.bf16_pays_on_cpu else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the forward pass runs."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def place(module: Trainable, config: TrainingConfig) -> tuple[torch.device, str]:
    """Move the module to its device and memory format in place; return the device and the precision."""
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device, module)
    module.to(device)
    if config.channels_last is True or (config.channels_last == "auto" and module.channels_last_pays):
        module.to(memory_format=torch.channels_last)
    return device, precision

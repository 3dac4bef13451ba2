"""Where and in which arithmetic to train: the meaning of `auto`."""

import logging
from contextlib import AbstractContextManager, nullcontext

import torch

from simulacra.errors import SimulacraError
from simulacra.training.config import TrainingConfig
from simulacra.training.trainable import Trainable

logger = logging.getLogger(__name__)

COMPILE_FROM_STEPS = 5000
"""Steps from which `compile: auto` means yes where the network gains: fewer do not earn back the time to build."""


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


def resolve_compile(config: TrainingConfig, device: torch.device, module: Trainable) -> bool:
    """Return whether the loss is built by torch.compile; a machine that cannot do it is warned about and goes without.

    `auto` looks at the length of the training and at what the network says of itself, not at a stopwatch.
    """
    long = module.compile_pays and config.steps >= COMPILE_FROM_STEPS and device.type != "mps"
    if not (long if config.compile == "auto" else config.compile):
        return False
    # Code is compiled anew at most eight times in a process; each training begins the count afresh.
    torch.compiler.reset()
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:
        reason = " ".join(str(error).partition("\n\n")[0].split()) or type(error).__name__
        logger.warning(
            "training.compile needs a C++ compiler that works (on a GPU also triton), and this machine has none: the "
            "training goes on without, at the same quality but slower. torch.compile said: %s",
            reason,
        )
        return False
    logger.info("the first step builds the loss by torch.compile, which takes seconds to a minute")
    return True


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

"""Which devices are here, and where a model is."""

from __future__ import annotations

import torch
from torch import nn

from perfsuite.errors import UnavailableError, UnknownNameError

KINDS = ("cpu", "cuda", "mps")


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter is; a model without any is on the CPU."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def get_device() -> torch.device:
    """The best device that is here: CUDA, else MPS, else CPU."""
    names = available_devices()
    return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in names))


def available_devices() -> tuple[str, ...]:
    """The kinds of device that work on this machine, "cpu" first."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return tuple(found)


def resolve_device(name: str) -> torch.device:
    """A device by name, such as "cuda" or "cuda:1".

    Raises UnknownNameError for a name that is none, UnavailableError for a device that is not here.
    """
    kind, _, index = name.partition(":")
    if kind not in KINDS or (index and not index.isdecimal()):
        raise UnknownNameError("device", name, KINDS)
    if kind not in available_devices():
        raise UnavailableError(
            f"device {name!r} is not on this machine", f"choose from {', '.join(available_devices())}"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise UnavailableError(
            f"device {name!r} is not on this machine, which has {torch.cuda.device_count()} CUDA devices"
        )
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

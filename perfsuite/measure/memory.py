"""Memory that the process and the device's allocator hold: information beside the exact peak of live
tensors, never gated. Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


def resident_bytes() -> int:
    """Resident set size of this process."""
    return int(psutil.Process().memory_info().rss)


def accelerator_peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """The CUDA allocator's peak during one call; None where there is no CUDA."""
    if device.type != "cuda":
        return None
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)

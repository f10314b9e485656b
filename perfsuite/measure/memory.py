"""Memory that the process holds: information beside the exact peak of live tensors, never gated."""

from __future__ import annotations

import psutil
import torch


def resident_bytes() -> int:
    """Resident set size of this process."""
    return int(psutil.Process().memory_info().rss)


def cuda_peak_bytes(device: torch.device) -> int | None:
    """The CUDA allocator's peak since it was last reset; None where there is no CUDA."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

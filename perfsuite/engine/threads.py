"""Threads and cores of this process, and its end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def set_threads(threads: int) -> None:
    """So many torch threads, if torch is loaded at all."""
    if "torch" in sys.modules:
        import torch

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def run_with_threads(threads: int) -> Iterator[None]:
    """Run on so many torch threads; afterwards as before."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    set_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_to_cores(cores: tuple[int, ...]) -> None:
    """Pin this process, where the system can; no cores: leave it free."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def die_with_parent() -> None:
    """Linux: be killed when the parent is, even in the middle of a call that never ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

"""Threads, cores and random numbers of this process."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


def seed_everything(seed: int) -> None:
    """Equal for both revisions, whichever runs first in a process."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)

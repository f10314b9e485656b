"""Threads and cores of this process, and its end."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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


def end_with_parent(folder: str) -> None:
    """Linux: be killed when the parent is, even in the middle of a call that never ends.

    So is all of this group; the folder is removed.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):  # an old kernel, or a container that forbids it
        _watch(os.pidfd_open(os.getppid()), folder)


def _watch(parent: int, folder: str) -> None:
    """A grandchild that waits for the end of this process's parent, given as a file descriptor."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(parent)
        return
    if os.fork() == 0:
        os.dup2(parent, 0)
        os.closerange(1, 2**16)  # the pipe above all: its end tells that this process has gone
        select.select([0], [], [])
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)
    os._exit(0)

"""Starting processes that do not outlive this one, waiting for them, and ending them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from perfsuite.executors import guard
from perfsuite.measure.clock import Deadline, RealClock

_GUARD = Path(guard.__file__).resolve()
_PATIENCE_S = 5.0  # for a process that was asked to end
_LONGEST_NAP_S = 0.05


def guarded(command: Sequence[str], *, folder: Path | None = None, grace_s: float = 0.0) -> list[str]:
    """The command under a guard: nothing of it is left when it ends, or this process does, whatever kills it.

    The folder is removed if this process is gone. ``grace_s``: how long it has to end by itself, once asked to.
    """
    return [
        sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(grace_s), str(folder or ""), *command,
    ]  # fmt: skip


def wait(process: subprocess.Popen[Any], seconds: float) -> bool:
    """Whether it ends in time. ``Popen.wait`` would never give up where a test has stopped the clock."""
    deadline, nap = Deadline.after(seconds), 0.0005
    while process.poll() is None:
        if deadline.is_over:
            return False
        RealClock.sleep(min(nap, deadline.left_s))
        nap = min(2 * nap, _LONGEST_NAP_S)
    return True


def end(process: subprocess.Popen[Any]) -> None:
    """End a process and all of its group: politely, so that git removes its lock files, and then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # the latter: macOS, for what has ended
            os.killpg(process.pid, number)
        wait(process, _PATIENCE_S)

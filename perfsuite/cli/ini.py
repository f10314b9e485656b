"""What pytest's ini file says to the command line: found and read by pytest itself, so that both agree.

What ``-o`` and ``addopts`` say is a matter of one run of pytest, and has no say here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfsuite._compat.pytest import find_ini
from perfsuite.errors import UsageError

if TYPE_CHECKING:
    from perfsuite.baseline.remote import Location


@dataclass(frozen=True)
class Ini:
    """The keys of the ini file that holds for a folder, and the root that paths in it are relative to."""

    root: Path
    keys: Mapping[str, str]


def ini_of(folder: Path) -> Ini:
    """As ``pytest``, started in this folder, would find it. Raises UsageError for a file that pytest refuses."""
    return Ini(*find_ini(folder))


def storage_of(given: str | None) -> Location:
    """Where the baselines are: as asked for, else as ``pytest`` would find them from the current folder."""
    from perfsuite.baseline.remote import location

    if given is not None:
        return location(given, Path.cwd())
    ini = ini_of(Path.cwd())
    return location(ini.keys.get("perf_storage", "baselines"), ini.root)


def history_of(given: str | None) -> Location:
    """Where the history is. Raises UsageError if neither the command nor the ini file says it."""
    from perfsuite.baseline.remote import location

    if given is not None:
        return location(given, Path.cwd())
    ini = ini_of(Path.cwd())
    if not ini.keys.get("perf_history"):
        raise UsageError(f"no history is named, and the ini file of {ini.root} has no perf_history", "give --file")
    return location(ini.keys["perf_history"], ini.root)


def threads_of(given: int | None) -> int:
    """The threads that are measured with: as asked for, else as the ini file says; 0 is a thread for each core."""
    from perfsuite.baseline.machine import usable_cores

    text = str(given) if given is not None else ini_of(Path.cwd()).keys.get("perf_threads", "0")
    if not text.strip().isdecimal():
        raise UsageError(f"ini key perf_threads is {text!r}", "write a whole number of threads, or 0 for all cores")
    return int(text) or usable_cores()

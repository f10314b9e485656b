"""Temporary folders that carry their owner in their names, so that the next process removes what a killed one left."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_PREFIX = "perfsuite"
_SAME_START_S = 60  # a start time read again may differ by what the system clock was set by


def new_folder(kind: str) -> Path:
    """A folder of this process: it is to be removed before the process ends. ``kind`` is a word. Raises OSError."""
    start = int(psutil.Process().create_time())
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{kind}-{_host()}-{os.getpid()}-{start}-")).resolve()


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """A folder of this process, for as long as the body."""
    folder = new_folder(kind)
    try:
        yield folder
    finally:
        delete(folder)


def remove_abandoned() -> None:
    """Remove what processes that no longer run left in the folder for temporary files."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*"):
        if _is_abandoned(folder):
            delete(folder)


def _is_abandoned(folder: Path) -> bool:
    """Whether its name says that it belonged to a process of this machine that is gone."""
    named = re.fullmatch(rf"{_PREFIX}-[a-z]+-{_host()}-(\d+)-(\d+)-\w+", folder.name)
    if named is None:
        return False
    try:
        if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
            return False
        owner = psutil.Process(int(named[1]))
        is_same = abs(owner.create_time() - int(named[2])) < _SAME_START_S
        return not is_same or owner.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, OSError):
        return False


def delete(folder: Path) -> None:
    """Delete a folder, read-only parts too; what belongs to others stays."""
    _open(folder)
    for parent, names, _ in os.walk(folder):
        for name in names:
            _open(Path(parent, name))
    shutil.rmtree(folder, ignore_errors=True)


def _open(folder: Path) -> None:
    with suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(0o700)


def _host() -> str:
    """Names this machine, and its container: process ids of another say nothing here."""
    processes = Path("/proc/self/ns/pid")
    inside = processes.readlink() if processes.exists() else ""
    return hashlib.sha256(f"{platform.node()} {inside}".encode()).hexdigest()[:8]

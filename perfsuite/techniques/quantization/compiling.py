"""A C file compiled once for a machine: kept in the user's cache, under all that the result depends on.

What is kept is code that runs here, so it is loaded only from where nobody else can have put it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from perfsuite.files import cache_folder, replacing
from perfsuite.temporary import temporary_folder

_T = TypeVar("_T")
_TIMEOUT_S = 60
_CPU = re.compile(r"(flags|Features|vendor_id|cpu family|model|model name|CPU \w+)\s*:")


def load(source: Path, compiler: str, flags: Sequence[str], use: Callable[[ctypes.CDLL], _T]) -> _T:
    """``use`` of the library that ``compiler``, a command with arguments, makes of a C file.

    It is kept once ``use`` has taken it. Raises OSError, ValueError or SubprocessError where it cannot be made, and
    what ``use`` raises.
    """
    command = shlex.split(compiler)
    kept = _kept(source, command, flags)
    if kept is None:
        return _build(source, command, flags, use, None)
    if not _is_safe(kept):
        with FileLock(kept.with_suffix(".lock"), timeout=2 * _TIMEOUT_S):  # one compiles, and the others wait for it
            if not _is_safe(kept):
                return _build(source, command, flags, use, kept)
    try:
        return use(ctypes.CDLL(str(kept)))
    except (OSError, AttributeError):  # it is broken
        return _build(source, command, flags, use, kept)


def _build(
    source: Path, compiler: list[str], flags: Sequence[str], use: Callable[[ctypes.CDLL], _T], kept: Path | None
) -> _T:
    with temporary_folder("kernels") as folder:
        objects, library = f"{folder}/code.o", f"{folder}/code.so"
        _run(*compiler, *flags, "-x", "c", "-c", str(source), "-o", objects)
        # Linked with no OpenMP of its own, so that it shares the threads of torch's, or does not load.
        _run(*compiler, "-shared", "-Wl,-z,now", objects, "-o", library)
        used = use(ctypes.CDLL(library))
        if kept is not None:
            with suppress(OSError):  # a full disk, say: then the next process compiles again
                kept.unlink(missing_ok=True)
                with replacing(kept) as temporary:
                    shutil.copyfile(library, temporary)
                    temporary.chmod(0o600)
        return used


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)


def _kept(source: Path, compiler: list[str], flags: Sequence[str]) -> Path | None:
    """Where the library is kept; None where there is no folder that is ours alone. Raises OSError for no compiler."""
    found = Path(shutil.which(compiler[0]) or compiler[0]).resolve()
    status = found.stat()
    parts = (
        source.read_bytes(), compiler, tuple(flags), str(found), status.st_size, status.st_mtime_ns,
        platform.machine(), os.confstr("CS_GNU_LIBC_VERSION"), _cpu(),
    )  # fmt: skip
    name = f"{source.stem}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.so"
    folder = cache_folder("kernels")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / name if _is_private(folder) and os.access(folder, os.W_OK) else None
    except OSError:
        return None


def _cpu() -> list[str]:
    """What the first CPU says of its kind and of its instructions, which ``-march=native`` is about."""
    first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    return [line for line in first.splitlines() if _CPU.match(line)]


def _is_private(folder: Path) -> bool:
    """Whether nobody else can write to a folder, nor put another in its place."""
    status = folder.lstat()
    above = [parent.stat() for parent in folder.resolve().parents]
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & 0o077
        and all(one.st_uid in (0, os.getuid()) for one in above)
        and all(not one.st_mode & stat.S_IWOTH or one.st_mode & stat.S_ISVTX for one in above)
    )


def _is_safe(file: Path) -> bool:
    """Whether a file is there that we have written, and nobody else can have."""
    try:
        status = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022

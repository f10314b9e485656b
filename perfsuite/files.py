"""Files on this machine: only regular ones are opened, and what is written is there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import platformdirs

_KINDS: Mapping[str, Callable[[int], bool]] = {
    "a FIFO": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}


def cache_folder(kind: str) -> Path:
    """The folder for one kind of file that takes time to make: in ``$PERFSUITE_CACHE``, else in the user's cache."""
    root = os.environ.get("PERFSUITE_CACHE") or platformdirs.user_cache_dir("perfsuite", appauthor=False)
    return Path(root) / kind


def check_regular(path: Path) -> None:
    """Raises OSError for what would never end, such as a FIFO, and FileNotFoundError for what is not there."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((name for name, is_one in _KINDS.items() if is_one(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def bytes_of(files: Iterable[Path]) -> int:
    """Their sizes, added up."""
    return sum(file.stat().st_size for file in files)


def read_regular(path: Path, limit: int = -1) -> bytes:
    """The content, or its first ``limit`` bytes. Raises OSError, at once, for what is no regular file."""
    check_regular(path)
    with path.open("rb") as file:
        return file.read(limit)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside ``path``, which takes its place in the end, or is gone after an error.

    A link stays a link, and a file keeps its permissions.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}.tmp")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        if target.exists():
            check_regular(target)
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write all of it, or raise OSError and leave what was there."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

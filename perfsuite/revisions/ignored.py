"""What git ignores, and a checkout therefore lacks: generated code, weights. A base gets the working tree's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from perfsuite.revisions.git import git

_NEVER = frozenset(
    {"__pycache__", "build", "dist", "env", "htmlcov", "node_modules", "site-packages", "target", "venv"}
)  # fmt: skip
_COMPILED = frozenset({".so", ".pyd", ".dylib", ".o", ".a", ".pyc", ".pyo"})  # of another source than the base's
_MOST = 10_000
_COPIED_BYTES = 2**20  # larger files are linked: weights of gigabytes


def add_ignored(top: Path, tree: Path) -> tuple[str, ...]:
    """Put what git ignores in a working tree into another tree of it, where that has no such file.

    Returns their paths. Hidden files, compiled code, environments and what builds leave are no part of it.
    """
    added: list[str] = []
    for name in _ignored(top):
        source, target = top / name, tree / name
        if len(added) < _MOST and source.is_file() and not target.exists() and not target.is_symlink():
            _put(source, target)
            added.append(name)
    return tuple(added)


def _ignored(top: Path) -> Iterator[str]:
    pathspecs = (f":(exclude,glob)**/{name}/**" for name in (*sorted(_NEVER), ".*", "*.egg-info"))
    listed = git(
        top, "ls-files", "--others", "--ignored", "--exclude-standard", "-z", "--", ".", *pathspecs, timeout_s=120,
    )  # fmt: skip
    yield from (name for name in listed.stdout.split("\0") if name and _is_wanted(PurePosixPath(name)))


def _is_wanted(path: PurePosixPath) -> bool:
    return path.suffix not in _COMPILED and not path.name.startswith(".")


def _put(source: Path, target: Path) -> None:
    """A copy: what the base writes there is not written here. Only large files are one and the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_size > _COPIED_BYTES:
        target.symlink_to(source.resolve())
    else:
        shutil.copy2(source, target)

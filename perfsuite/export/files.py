"""The files of an exported program that are deployed."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "program.json"


def deployed(folder: Path) -> tuple[Path, ...]:
    """All that is in the folder but our own account of it, external data included."""
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST))

"""Which reporter writes a file: the one with the longest name that the file's name ends in. And writing it."""

from __future__ import annotations

from pathlib import Path

from perfsuite.errors import UnknownNameError
from perfsuite.files import write_whole
from perfsuite.protocols import Reporter, Run
from perfsuite.registry import REPORTERS, Registry


def reporter_of(name: str, reporters: Registry[Reporter] = REPORTERS) -> Reporter:
    """``run.bencher.json`` goes to ``.bencher.json`` before ``.json``. Raises UnknownNameError with what exists."""
    endings = [ending for ending in reporters.names() if name.lower().endswith(ending.lower())]
    if not endings:
        last = name.rpartition("/")[2]
        raise UnknownNameError("reporter", last[last.rfind(".") :] if "." in last else last, reporters.names())
    return reporters.get(max(endings, key=len))


def write_report(run: Run, path: Path, reporters: Registry[Reporter] = REPORTERS) -> None:
    """Write a run as the path's ending says, whole or not at all. Raises UnknownNameError, or OSError."""
    text = "\n".join(reporter_of(path.name, reporters)(run)) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())

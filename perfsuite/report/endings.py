"""Which reporter writes a file: the one with the longest name that the file's name ends in."""

from __future__ import annotations

from perfsuite.errors import UnknownNameError
from perfsuite.protocols import Reporter
from perfsuite.registry import REPORTERS, Registry


def reporter_of(name: str, reporters: Registry[Reporter] = REPORTERS) -> Reporter:
    """``run.bencher.json`` goes to ``.bencher.json`` before ``.json``. Raises UnknownNameError with what exists."""
    endings = [ending for ending in reporters.names() if name.lower().endswith(ending.lower())]
    if not endings:
        last = name.rpartition("/")[2]
        raise UnknownNameError("reporter", last[last.rfind(".") :] if "." in last else last, reporters.names())
    return reporters.get(max(endings, key=len))

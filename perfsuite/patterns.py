"""Names as people ask for them: one of them, or a pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The name itself if there is one, else those that match, sorted; ``*`` and ``?`` stand for other letters.

    Brackets are letters: the name of a test has some, and ``test_x[a]`` must never be ``test_xa``.
    """
    known = sorted(set(names))
    if pattern in known:
        return [pattern]
    literal = pattern.replace("[", "[[]")
    return [name for name in known if fnmatch.fnmatchcase(name, literal)]

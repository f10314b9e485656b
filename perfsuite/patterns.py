"""Names as people ask for them, one or a pattern, and as sentences list them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The name itself if there is one, else those that match, sorted; ``*`` and ``?`` stand for other letters.

    Brackets are letters: the name of a test has some, and ``test_x[a]`` must never be ``test_xa``.
    """
    known = sorted(set(names))
    if pattern in known:
        return [pattern]
    literal = pattern.replace("[", "[[]")
    return [name for name in known if fnmatch.fnmatchcase(name, literal)]


def counted(count: int, noun: str) -> str:
    """For a sentence: ``1 case``, ``1,200 cases``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def first_of(names: Sequence[str], shown: int) -> str:
    """A list for a sentence: ``a, b and 3 more``."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more

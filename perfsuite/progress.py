"""Long work tells how far it is; whoever wants to show that watches.

A context variable, not a parameter: the loop that trains a model is far below the terminal, and
nothing between the two should have to hand a callback down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[str, int, int], None]  # (what, done, total)

_watcher: ContextVar[Watcher | None] = ContextVar("perfsuite_progress", default=None)


def tell(what: str, done: int, total: int) -> None:
    """Say that ``done`` of ``total`` steps of some long work are finished."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(what, done, total)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Show the progress of everything in the body to a watcher."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)

"""Long work tells how far it is; whoever wants to show that watches.

A context variable, not a parameter: the loop that trains a model is far below the terminal, and
nothing between the two should have to hand a callback down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

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


@contextmanager
def show_progress() -> Iterator[None]:
    """Show the progress of everything in the body as bars on standard error, for use outside pytest."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        with watched(show):
            yield

"""What a test gives to be called, made ready for many calls: never is only the making of an object timed."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial, wraps
from types import TracebackType
from typing import Any

from perfsuite.errors import UsageError
from perfsuite.measure.repeatable import Repeatable, Setup

_LAZY_MODULES = ("builtins", "itertools")  # others' iterators may have done the work: a file is open, a query has run


class EventLoop:
    """Awaits what calls return, on a loop of its own that is kept for all of them. Close it when done."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    @property
    def was_needed(self) -> bool:
        return self._runner is not None

    def run(self, awaitable: Any) -> Any:
        """Raises UsageError inside a running loop, which cannot be waited for from within."""
        if is_in_event_loop():
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # else Python warns that it was never awaited
            raise UsageError(
                f"the call returns an awaitable ({type(awaitable).__name__}), and cannot be awaited here, inside of a "
                "running event loop",
                "make the test a plain function ('def', not 'async def'): there it is awaited",
            )
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # else it replaces the thread's own
        return self._runner.get_loop().run_until_complete(awaitable)

    def awaiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with what it returns awaited."""

        @wraps(function, updated=())
        def awaited(*args: Any, **kwargs: Any) -> Any:
            return self.run(function(*args, **kwargs))

        return awaited

    def finish(self, result: Any) -> Any:
        """What a call has come to in the end. Raises UsageError where that is still to be done."""
        if inspect.isawaitable(result):
            result = self.run(result)
        check_done(result)
        return result

    def __enter__(self) -> EventLoop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self._runner.close()


def called_once(
    loop: EventLoop, function: Callable[..., Any], args: tuple[Any, ...], setup: Setup | None
) -> tuple[Any, Repeatable]:
    """The result of a first call, whose errors are its own, and what is timed: the work, whole."""
    result = Repeatable(lambda *more, **named: loop.finish(function(*args, *more, **named)), setup)()
    work = loop.awaiting(function) if loop.was_needed else function
    return result, Repeatable(partial(work, *args) if setup else lambda: work(*args), setup, made=1)


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Whether a call only makes a coroutine, as can be told without calling it."""
    inner = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


def is_in_event_loop() -> bool:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check_done(result: Any) -> None:
    """Raises UsageError for the result of a call that has not done its work: a lazy iterator, a future."""
    kind = type(result).__name__
    if isinstance(result, AsyncIterator):
        raise UsageError(
            f"the call returns an asynchronous iterator ({kind}): only its making would be timed",
            "let a coroutine function exhaust it: async def work(): return [item async for item in function()]",
        )
    if isinstance(result, Iterator) and type(result).__module__ in _LAZY_MODULES:
        raise UsageError(
            f"the call returns a lazy iterator ({kind}): only its making would be timed",
            "let the callable exhaust it: lambda: list(function())",
        )
    if inspect.isawaitable(result):
        raise UsageError(
            f"the call returns an awaitable ({kind}): only its making would be timed",
            "give the coroutine function itself, with its arguments: it is awaited",
        )
    if hasattr(result, "add_done_callback"):
        raise UsageError(
            f"the call returns a promise ({kind}): only its making would be timed",
            "let the callable wait for it: lambda: function().result()",
        )

"""A callable that is called again and again, each time with fresh state where it asks for some.

What is made before a call, and what is said of one that raises, is outside of its time.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from perfsuite.errors import NotRepeatableError

Setup = Callable[[], Any]
Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]

FRESH_STATE = (
    "give each call state of its own: perf(function, setup=make) calls make() before each call, outside of its time, "
    "and passes on what that returns"
)
NOTHING_BEHIND = "let forward leave nothing behind: a model is called many times with the same inputs"
RESET = "let the reset of the workload bring back all that a repetition changes"
_PACKAGE = Path(__file__).parent.parent


def arguments_of(made: Any) -> Arguments:
    """What a setup has made, as the arguments of the next call.

    ``(args, kwargs)``, a tuple and a dict, as pytest-benchmark's setup returns them; any other tuple is the
    arguments; None is no argument, and whatever else is the one argument.
    """
    if made is None:
        return (), {}
    if not isinstance(made, tuple):
        return (made,), {}
    if len(made) == 2 and isinstance(made[0], tuple | list) and isinstance(made[1], dict):
        return tuple(made[0]), made[1]
    return made, {}


class Repeatable:
    """A call, counted, with what prepares each and what cleans up after it. ``made`` calls have gone well already."""

    def __init__(
        self,
        call: Callable[..., Any],
        setup: Setup | None = None,
        teardown: Callable[..., Any] | None = None,
        *,
        remedy: str = FRESH_STATE,
        made: int = 0,
    ) -> None:
        self._call = call
        self._setup = setup
        self._teardown = teardown
        self._remedy = remedy
        self._made = made

    @property
    def has_setup(self) -> bool:
        """Whether each call has to be timed by itself, since something is made before it."""
        return self._setup is not None or self._teardown is not None

    def __call__(self) -> Any:
        with self.prepared() as call:
            return call()

    @contextmanager
    def prepared(self, calls: int = 1) -> Iterator[Callable[[], Any]]:
        """What is to be called, so many times. Raises NotRepeatableError where a later call than the first raises."""
        args, kwargs = arguments_of(self._setup()) if self._setup else ((), {})
        try:
            yield partial(self._call, *args, **kwargs) if self._setup else self._call
        except (Exception, SystemExit) as error:
            if self._made == 0:  # it never worked: the error is the caller's own
                raise
            raise self._not_repeatable(error, calls) from error
        self._made += calls
        if self._teardown is not None:
            self._teardown(*args, **kwargs)

    def _not_repeatable(self, error: BaseException, calls: int) -> NotRepeatableError:
        first, last = self._made + 1, self._made + calls
        which = f"call {first:,}" if first == last else f"one of the calls {first:,} to {last:,}"
        text = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
        return NotRepeatableError(f"it cannot be repeated: {which} raised {text}{_where(error)}", self._remedy)


def prepared(arm: Callable[[], Any], calls: int = 1) -> AbstractContextManager[Callable[[], Any]]:
    """What is to be called of an arm, so many times, once all that it needs for that has been made."""
    prepare = getattr(arm, "prepared", None)  # by name: beside a base there may be two copies of a class
    return prepare(calls) if prepare else nullcontext(arm)


def has_setup(arm: Callable[[], Any]) -> bool:
    return bool(getattr(arm, "has_setup", False))


def _where(error: BaseException) -> str:
    """The innermost line that is not ours."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if _PACKAGE not in Path(frame.filename).parents
    ]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""

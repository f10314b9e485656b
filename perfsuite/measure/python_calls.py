"""Which Python functions of the project run in one call, and how often: exact, whatever the machine is doing.

The project's are those that nobody has installed: files outside of the folders of Python's libraries. What this package
measures with is left out. Calls are seen by a profile hook, in this thread and in those that start meanwhile.
"""

from __future__ import annotations

import dis
import inspect
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

from perfsuite.measure.repeatable import prepared

_MACHINERY = ("executors", "measure", "plugin", "runtimes", "session", "training", "workloads", "_compat")
_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_INLINED_LATER = frozenset({"<dictcomp>", "<listcomp>", "<setcomp>"})  # functions of their own until Python 3.12


def why_not_counted() -> str:
    """Why calls cannot be counted here, if so: a profiler in C, such as cProfile's, cannot be set aside for a while."""
    return "" if callable(sys.getprofile() or print) else "another profiler is at work in this process"


def python_calls(call: Callable[[], object]) -> Mapping[str, int]:
    """By qualified name, such as ``pkg.model.Encoder.forward``, of one call, without what is made for it."""
    with prepared(call) as ready:
        recorder = _Recorder()
        before, before_threads = sys.getprofile(), threading.getprofile()
        threading.setprofile(recorder)
        sys.setprofile(recorder)
        try:
            ready()
        finally:
            sys.setprofile(before)
            threading.setprofile(before_threads)
    return dict(sorted(recorder.calls.items()))


class _Recorder:
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and _counts(frame.f_code) and not _is_resumed(frame):
            self.calls[f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"] += 1


@cache
def _counts(code: CodeType) -> bool:
    return code.co_name not in _INLINED_LATER and _is_own(code.co_filename)


@cache
def _is_own(filename: str) -> bool:
    path = Path(filename)
    if not path.is_absolute() or any(path.is_relative_to(library) for library in _LIBRARIES):
        return False
    return not any(path.is_relative_to(_PACKAGE / part) for part in _MACHINERY)


def _is_resumed(frame: FrameType) -> bool:
    """Whether a generator or a coroutine goes on, which the hook sees as a call."""
    code = frame.f_code
    return bool(code.co_flags & _SUSPENDS) and frame.f_lasti > _start_of(code)


@cache
def _start_of(code: CodeType) -> int:
    """Where a generator begins when it is first asked."""
    return next(one.offset for one in dis.get_instructions(code) if one.opname == "RESUME")

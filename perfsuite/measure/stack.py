"""Room on Python's own stack, so that no timed call happens to cross a boundary of it.

CPython keeps frames in chunks of 16 KiB, and from 3.11 on it maps a new one, and unmaps it again, at each call
that crosses a boundary (python/cpython#142183; mended in late releases of 3.13 and 3.14). Where a model's
calls do, each takes some ten microseconds more: by how deep the test runner stands, not by what the model does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# A frame of 512 KiB, which is reserved and never touched. It gets a chunk of 1 MiB to itself and to what it calls:
# calls may nest some thousand deep before they leave it.
_SLOTS = 2**16


def with_room(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, called so that its calls find room on the stack."""

    def roomy(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(*args, **kwargs)

    roomy.__code__ = roomy.__code__.replace(co_stacksize=_SLOTS)
    return update_wrapper(roomy, function)

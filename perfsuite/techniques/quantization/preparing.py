"""What layers compute with, in a form that is made at first use: kept while nobody writes to what it came of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import call
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, watch_writes
from perfsuite.techniques.quantization.kernels import PREPACKED, kernel_name
from perfsuite.techniques.quantization.linear import in_graph

_T = TypeVar("_T")
_prepares: ContextVar[bool] = ContextVar("perfsuite_prepares", default=True)


class Prepared(Generic[_T]):
    """Made at first use, and again when a tensor that it comes from has been written to, in whatever way.

    Scales and biases are small: they are compared. Codes are not: torch is asked to move them once somebody writes.
    It is derived: copies and pickles leave it behind.
    """

    def __init__(self) -> None:
        self._made: _T | None = None
        self._are_unwritten: list[Callable[[Tensor], bool]] = []

    def of(self, tensors: Sequence[Tensor], gather: Callable[[], _T], prepare: Callable[[_T], _T]) -> _T | None:
        """What ``prepare`` makes of what is gathered. None where there is nothing to tell a change of these by."""
        try:
            if self._made is None or not self._holds_for(tensors):
                gathered = gather()
                self._are_unwritten = [watch_writes(t, is_large=t.dtype == torch.int8) for t in tensors]
                self._made = prepare(gathered)
            return self._made
        except RuntimeError:  # such as in a transform of torch.func
            return None

    def _holds_for(self, tensors: Sequence[Tensor]) -> bool:
        return len(tensors) == len(self._are_unwritten) and all(map(call, self._are_unwritten, tensors))

    def __deepcopy__(self, memo: Any) -> Prepared[_T]:
        return Prepared()

    def __reduce__(self) -> tuple[type[Prepared[_T]], tuple[()]]:
        return (Prepared, ())


@contextmanager
def nothing_prepared() -> Iterator[None]:
    """While open, nothing is kept: for a single call, after which the model may only be saved."""
    token = _prepares.set(False)
    try:
        yield
    finally:
        _prepares.reset(token)


def can_prepare(layer: nn.Module) -> bool:
    """Whether a layer of codes and scales may keep what it computes with from call to call.

    Not while a graph is traced (it is no part of it) or gradients are taken (a bias may want some).
    """
    if in_graph() or not _prepares.get():
        return False
    codes, scale = own_buffers(layer)["codes"], own_buffers(layer)["scale"]
    assert codes is not None
    assert scale is not None
    return scale.dtype == torch.float32 and kernel_name(codes.device) in PREPACKED

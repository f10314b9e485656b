"""The loops of fused.c, compiled when they are first needed on a machine, where there is a C compiler.

They compute what several operators do, in one pass over memory: the same integers, and floats that differ by rounding.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfsuite.techniques.quantization import compiling, grid
from perfsuite.techniques.quantization.grid import Rows, lost

_SOURCE = Path(__file__).with_name("fused.c")
_FLAGS = (
    "-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only",
    "-fno-signed-zeros", "-ffp-contract=off",
)  # fmt: skip
_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64


@functools.cache
def compiled() -> Fused | None:
    """The compiled loops; None where there is no compiler for them. ``CC`` names the compiler; empty means none."""
    named = os.environ.get("CC", "cc")
    if not named or not sys.platform.startswith("linux"):  # elsewhere torch brings another OpenMP
        return None
    try:
        return compiling.load(_SOURCE, named, _FLAGS, Fused)
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError):  # the third: without our functions
        return None


class Fused:
    """The functions of a compiled fused.c. Tensors: see ``takes``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._rows = _on_tensors(library.affine_rows, 3)  # x; q, scale, zero
        self._tensor = _on_tensors(library.affine_tensor, 3)
        self._fixed = _on_tensors(library.fixed_rows, 3, ctypes.c_int)
        self._finish = _on_tensors(library.finish_rows, 4)  # y; scale, zero, sums, bias

    def affine_rows(self, x: Tensor, *, per_token: bool) -> Rows:
        """As ``grid.affine_rows``, with unsigned integers."""
        shape, quantize = ((x.shape[0], 1), self._rows) if per_token else ((), self._tensor)
        rows = Rows(x.new_empty(x.shape, dtype=torch.uint8), x.new_empty(shape), x.new_empty(shape))
        quantize(x, rows.q, rows.scale, rows.zero)
        return rows

    def fixed_rows(self, x: Tensor, scale: Tensor, zero: Tensor) -> Rows:
        """As ``grid.fixed_rows``, with unsigned integers."""
        rows = Rows(x.new_empty(x.shape, dtype=torch.uint8), scale.to(x), zero.to(x))
        is_lost = self._fixed(x, rows.q, rows.scale, rows.zero)
        return rows._replace(lost=lost(x)) if is_lost else rows

    def finish(self, y: Tensor, rows: Rows, sums: Tensor, bias: Tensor) -> Tensor:
        """In place, (y - zero * sums) * scale + bias, for y (N, O), sums and bias (O,), and rows with a scale each."""
        self._finish(y, rows.scale, rows.zero, sums, bias)
        return y


def _on_tensors(function: Any, arrays: int, returns: Any = None) -> Callable[..., Any]:
    """A function of a matrix, its shape, so many more arrays, and the number of threads, to be given tensors."""
    function.argtypes = [_POINTER, _COUNT, _COUNT, *[_POINTER] * arrays, ctypes.c_int]
    function.restype = returns

    def call(matrix: Tensor, *others: Tensor) -> Any:
        pointers = [other.data_ptr() for other in others]
        return function(matrix.data_ptr(), *matrix.shape, *pointers, torch.get_num_threads())

    return call


def takes(x: Tensor) -> bool:
    """Whether a tensor can be given to ``Fused``: plain float32 in the CPU's memory, without gaps, and not empty."""
    if type(x) is not Tensor or x.dtype != torch.float32 or not x.is_cpu or not x.is_contiguous() or x.is_neg():
        return False
    try:
        return x.data_ptr() != 0
    except RuntimeError:  # inside of torch.func's transforms tensors have no memory of their own
        return False


def are_right(loops: Fused) -> bool:
    """Whether the loops compute what torch's operators do, and find NaN and infinity, on one thread and on several."""
    x = torch.linspace(-3, 5, 24 * 791, device="cpu", dtype=torch.float32).view(24, 791) ** 3
    x[5, 790] = torch.nan
    good = torch.arange(24, device="cpu") != 5
    scale, zero = x.new_tensor(0.125), x.new_tensor(-3.0)
    pairs = [
        (loops.affine_rows(x, per_token=True), grid.affine_rows(x)),
        (loops.affine_rows(x[good], per_token=False), grid.affine_rows(x[good], per_token=False)),
        (loops.fixed_rows(x, scale, zero), grid.fixed_rows(x, scale, zero)),
    ]
    for ours, theirs in pairs:
        rows = good if len(ours.q) == len(good) else slice(None)
        if not torch.equal(ours.signed()[rows], theirs.q[rows]) or not _same(ours[1:], theirs[1:]):
            return False
    ours, ones = pairs[0][0], x.new_ones(791)
    finished = loops.finish(x.clone(), ours, ones, ones)
    return torch.allclose(finished, (x - ours.zero) * ours.scale + 1, equal_nan=True)


def _same(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> bool:
    """To the bit, with NaN in the same places."""
    return all(
        one is other or (one is not None and other is not None and torch.allclose(one, other, 0, 0, equal_nan=True))
        for one, other in zip(ours, theirs, strict=True)
    )

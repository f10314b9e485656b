"""A linear layer on integers, without its module: floats to the grid, the product, and back to floats.

By compiled loops, in one pass each, where they can be used; by operators elsewhere: where gradients are taken, where a
graph is traced, on other devices, and for other dtypes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from perfsuite._compat.torch import is_followed, unwatched
from perfsuite.techniques.quantization import grid, onednn
from perfsuite.techniques.quantization.fused import Fused, compiled, takes
from perfsuite.techniques.quantization.grid import Rows
from perfsuite.techniques.quantization.kernels import int8_matmul, kernel_name

_CHUNK_BYTES = 2**22  # of results at a time: larger temporaries leave the cache, and cost page faults at each call
_SUMMED = 2**22  # weights at a time


class Operands(NamedTuple):
    """What a product with integer rows needs, of one layer or of several side by side (O outputs in all)."""

    weight: Tensor  # (O, K) int8
    scale: Tensor  # (O,), float32 or wider
    sums: Tensor  # (O,): the dequantized weights added up over K
    bias: Tensor  # (O,)
    packed: onednn.Packed | None = None
    one_grid: bool = True  # whether all of the layers put their input on the same one


def prepared(operands: Operands) -> Operands:
    """For oneDNN, to be used more than once; as they are, where the bias is not what compiled loops could read."""
    bias = operands.bias.detach().contiguous()
    if not (takes(operands.sums) and takes(bias) and bias.shape == operands.sums.shape):
        return operands
    return operands._replace(packed=onednn.pack(unwatched(operands.weight)), bias=bias)


def row_sums(weight: Tensor) -> Tensor:
    """(O, K) int8 to (O,) int32. torch makes int32 of all that it adds up: of a head of a language model, 260 MB."""
    step = max(1, _SUMMED // max(1, weight.shape[1]))
    if torch.compiler.is_compiling() or is_followed() or len(weight) <= step:
        return weight.sum(dim=1, dtype=torch.int32)
    sums = torch.empty(len(weight), dtype=torch.int32, device=weight.device)  # below what is made on the way
    for part, into in zip(weight.split(step), sums.split(step), strict=True):
        torch.sum(part, dim=1, dtype=torch.int32, out=into)
    return sums


def affine_rows(x: Tensor, *, per_token: bool) -> Rows:
    """(N, K) floats on grids of their own, one for each row, or one for all."""
    loops = _loops(x)
    return grid.affine_rows(x, per_token=per_token) if loops is None else loops.affine_rows(x, per_token=per_token)


def fixed_rows(x: Tensor, scale: Tensor, zero: Tensor) -> Rows:
    """(N, K) floats on the grid of scale () and zero ()."""
    loops = _loops(x)
    return grid.fixed_rows(x, scale, zero) if loops is None else loops.fixed_rows(x, scale, zero)


def _loops(x: Tensor) -> Fused | None:
    """The compiled loops, where they take this tensor, and nobody has to see what is done with it."""
    if in_graph() or is_followed() or not takes(x):
        return None
    return compiled() if kernel_name(x.device) == "fused" else None


def in_graph() -> bool:
    """Whether what is computed becomes part of a graph: of gradients, or of a compiler."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def affine_linear(rows: Rows, operands: Operands) -> Tensor:
    """Rows on the grid (N, K) to outputs (N, O), in float32 or wider."""
    if rows.scale.dim() == 0:
        y = _one_grid(rows, operands)
        return y if rows.lost is None else y.add(rows.lost)
    loops = compiled() if operands.packed is not None and rows.q.dtype == torch.uint8 else None
    if loops is not None:
        return loops.finish(_scaled_matmul(rows, operands), rows, operands.sums, operands.bias)
    return _in_chunks(rows, operands)


def _in_chunks(rows: Rows, operands: Operands) -> Tensor:
    width, number = operands.scale.shape[0], rows.q.shape[0]
    step = max(64, _CHUNK_BYTES // (4 * width + 1))
    if in_graph() or number <= 2 * step:
        return _chunk(rows, operands, None)
    out = torch.empty(number, width, dtype=operands.scale.dtype, device=rows.q.device)
    for start in range(0, number, step):
        _chunk(rows.part(start, start + step), operands, out[start : start + step])
    return out


def _chunk(rows: Rows, operands: Operands, out: Tensor | None) -> Tensor:
    y = _scaled_matmul(rows, operands).addr_(rows.zero.flatten(), operands.sums, alpha=-1)
    return torch.addcmul(operands.bias, y, rows.scale, out=out)


def _scaled_matmul(rows: Rows, operands: Operands) -> Tensor:
    """The product of the integers with the transpose of the weight, times its scales: floats (N, O)."""
    if operands.packed is not None and rows.q.shape[0]:
        return onednn.linear(rows.unsigned(), operands.packed, operands.scale, 1.0, 0, None)
    return int8_matmul(rows.signed(), operands.weight) * operands.scale


def _one_grid(rows: Rows, operands: Operands) -> Tensor:
    """The same in one call, where all rows have one scale and zero."""
    if operands.packed is not None and rows.q.shape[0] and math.isfinite(rows.scale):
        scale, zero = float(rows.scale), int(rows.zero)
        return onednn.linear(rows.unsigned(), operands.packed, operands.scale, scale, zero, operands.bias)
    offset = operands.bias - operands.sums * (rows.scale * rows.zero)  # (O,)
    return torch.addcmul(offset, int8_matmul(rows.signed(), operands.weight), operands.scale * rows.scale)

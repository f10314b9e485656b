"""oneDNN's linear layer for int8, as torch has it: one grid for all inputs, weights in a layout of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from perfsuite._compat.torch import qlinear, qlinear_prepack
from perfsuite.techniques.quantization.grid import SHIFT

Packed = tuple[Tensor, Tensor]  # a weight in oneDNN's own layout, and its zero points


def pack(weight: Tensor) -> Packed:
    """A weight (O, K) int8."""
    zeros = weight.new_zeros(weight.shape[0], dtype=torch.int32)
    return qlinear_prepack(weight.contiguous()), zeros


def linear(
    unsigned: Tensor, packed: Packed, scale: Tensor, input_scale: float, input_zero: int, bias: Tensor | None
) -> Tensor:
    """(q - input_zero) W * input_scale * scale + bias, for q + 128 as uint8 (N, K), not empty, and scale (O,)."""
    weight, zeros = packed
    return qlinear(unsigned, input_scale, input_zero + SHIFT, weight, scale, zeros, bias)

"""oneDNN's linear layer and convolution for int8, as torch has them.

One grid for all inputs, and weights in a layout of oneDNN's own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from perfsuite._compat.torch import qconv, qconv_prepack, qlinear, qlinear_prepack
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


class PackedKernel(NamedTuple):
    """The kernel of a convolution in oneDNN's own layout, with its scale (O,), zero points (O,) and bias (O,)."""

    weight: Tensor
    scale: Tensor
    zeros: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


def pack_kernel(
    weight: Tensor, scale: Tensor, bias: Tensor, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> PackedKernel:
    """Of a weight (O, I, ...) int8."""
    zeros = weight.new_zeros(weight.shape[0], dtype=torch.int32)
    return PackedKernel(qconv_prepack(weight, scale, stride, dilation), scale, zeros, bias, stride, dilation)


def convolution(unsigned: Tensor, kernel: PackedKernel, input_scale: float, input_zero: float) -> Tensor:
    """The convolution of (q - input_zero) * input_scale, for q + 128 as uint8 (N, I, ...); NaN where the scale is."""
    weight, scale, zeros, bias, stride, dilation = kernel
    zero = int(input_zero) + SHIFT if math.isfinite(input_scale) else 0
    return qconv(unsigned, input_scale, zero, weight, scale, zeros, bias, stride, dilation)

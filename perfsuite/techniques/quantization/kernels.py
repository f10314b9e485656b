"""The integer matrix product, exact on every device: the fastest kernel that can do it, chosen by capability.

"onednn" is oneDNN's linear layer on a prepacked weight, with the scales of the output fused (CPU);
"int_mm" is ``torch._int_mm``; "blocked" is portable and needs nothing but float32 products.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_chosen: dict[str, str] = {}  # by type of device; a graph compiler can read it, unlike a cached function
_EXACT_DEPTH = 1024  # 1024 * 128 * 127 < 2**24: so many products add up exactly in float32
_SHIFT = 128  # oneDNN is fast for unsigned activations: q + 128, which flips the highest bit


class Operands(NamedTuple):
    """What a product with integer rows needs, of one layer or of several side by side (O outputs in all)."""

    weight: Tensor  # (O, K) int8
    scale: Tensor  # (O,), float32 or wider
    sums: Tensor  # (O,): the dequantized weights added up over K
    bias: Tensor | None  # (O,)
    packed: tuple[Tensor, Tensor] | None = None  # the weight in oneDNN's own layout, and its zero points


def pack(operands: Operands) -> Operands:
    """With the weight in oneDNN's own layout."""
    zeros = torch.zeros(operands.weight.shape[0], dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(operands.weight.contiguous(), None)
    return operands._replace(packed=(packed, zeros))


def scaled_matmul(q: Tensor, operands: Operands) -> Tensor:
    """The product of int8 (N, K) with the transpose of the weight, times its scales: floats (N, O)."""
    if operands.packed is not None and q.shape[0]:
        return _onednn(q, operands.packed, operands.scale, 1.0, 0, None)
    return int8_matmul(q, operands.weight) * operands.scale


def affine_linear(q: Tensor, input_scale: Tensor, input_zero: Tensor, operands: Operands) -> Tensor:
    """A whole linear layer for inputs with one scale () and zero ()."""
    if operands.packed is not None and q.shape[0] and math.isfinite(input_scale):
        return _onednn(q, operands.packed, operands.scale, float(input_scale), int(input_zero), operands.bias)
    offset = operands.sums * -(input_scale * input_zero)  # (O,)
    if operands.bias is not None:
        offset = offset + operands.bias
    return torch.addcmul(offset, int8_matmul(q, operands.weight), operands.scale * input_scale)


def int8_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The exact product of int8 (N, K) with the transpose of int8 (O, K): int32 (N, O)."""
    if kernel_name(a.device) != "blocked" and _int_mm_takes(a, b):
        return torch._int_mm(a, b.t())
    return blocked_matmul(a, b)


def blocked_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The same product for any device: float32 products over depths so short that every sum is exact."""
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _EXACT_DEPTH):
        part = slice(start, start + _EXACT_DEPTH)
        total += (a[:, part].float() @ b[:, part].float().t()).to(torch.int32)
    return total


def kernel_name(device: torch.device) -> str:
    """Which integer matmul this kind of device gets: "onednn", "int_mm" or "blocked".

    Capability is measured, not looked up: on CPUs without VNNI the fast kernels may saturate their
    16-bit intermediate sums, and a device may lack an operator altogether.
    """
    if device.type not in _chosen:
        if torch.compiler.is_compiling():
            return "blocked"  # nothing can be measured while a graph is traced; this one is right everywhere
        _chosen[device.type] = _measured(device)
    return _chosen[device.type]


def _measured(device: torch.device) -> str:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (24, 512), generator=generator, dtype=torch.int8)
    b = torch.randint(-127, 128, (24, 512), generator=generator, dtype=torch.int8)
    a[0], a[1], b[0], b[1] = 127, -128, 127, -127  # the largest sums there can be
    exact, ones = a.long() @ b.long().t(), torch.ones(24)
    if not _is(exact, lambda: torch._int_mm(a.to(device), b.to(device).t())):
        return "blocked"
    fused = device.type == "cpu" and _is(exact, lambda: scaled_matmul(a, pack(Operands(b, ones, ones, None))))
    return "onednn" if fused else "int_mm"


def _is(expected: Tensor, compute: Any) -> bool:
    try:
        return torch.equal(compute().cpu().long(), expected)
    except (RuntimeError, NotImplementedError, AttributeError):  # no such operator, or not for this device
        return False


def _onednn(
    q: Tensor, packed: tuple[Tensor, Tensor], scale: Tensor, input_scale: float, input_zero: int, bias: Tensor | None
) -> Tensor:
    unsigned = q.view(torch.uint8) ^ _SHIFT
    weight, zeros = packed
    y: Tensor = torch.ops.onednn.qlinear_pointwise(
        unsigned, input_scale, input_zero + _SHIFT, weight, scale, zeros, bias, 1.0, 0, torch.float32, "none", [], ""
    )
    return y


def _int_mm_takes(a: Tensor, b: Tensor) -> bool:
    """CUDA's kernel wants more than 16 rows and multiples of 8; the CPU's is wrong for a depth of 1 (torch 2.13)."""
    if a.device.type != "cuda":
        return a.shape[0] > 0 and a.shape[1] > 1
    return a.shape[0] > 16 and a.shape[1] % 8 == 0 and b.shape[0] % 8 == 0

"""The integer matrix product, exact on every device: the fastest kernel that can do it, chosen by capability.

"onednn" is oneDNN's linear layer on a prepacked weight, with the scales of the output fused (CPU); "fused" is the same
with the compiled loops of fused.c around it, where there is a C compiler; "int_mm" is ``torch._int_mm``; "blocked" is
portable and needs nothing but float32 products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perfsuite._compat.torch import int_mm, is_followed, without_modes
from perfsuite.techniques.quantization import onednn
from perfsuite.techniques.quantization.fused import are_right, compiled
from perfsuite.techniques.quantization.grid import SHIFT, Rows

PREPACKED = ("fused", "onednn")  # what wants weights in oneDNN's own layout
# By type of device, and of convolutions; a graph compiler can read it, unlike a cached function.
_chosen: dict[str, str] = {}
_CONVOLUTION = "convolution"
_AT_A_TIME = 2**24  # weights
_EXACT_DEPTH = 1024  # 1024 * 128 * 127 < 2**24: so many products add up exactly in float32


def int8_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The exact product of int8 (N, K) with the transpose of int8 (O, K): int32 (N, O).

    Of a large matrix some rows at a time: kernels make copies of it in layouts of their own.
    """
    step = max(1, _AT_A_TIME // max(1, b.shape[1]))
    if len(b) > step and not (torch.compiler.is_compiling() or is_followed()):
        y = torch.empty(len(a), len(b), dtype=torch.int32, device=a.device)
        for start in range(0, len(b), step):
            y[:, start : start + step] = int8_matmul(a, b[start : start + step])
        return y
    if kernel_name(a.device) != "blocked" and _int_mm_takes(a, b):
        return int_mm(a, b.t())
    return blocked_matmul(a, b)


def blocked_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The same product for any device: float32 products over depths so short that every sum is exact."""
    if torch.amp.is_autocast_available(a.device.type) and torch.is_autocast_enabled(a.device.type):
        with torch.autocast(a.device.type, enabled=False):  # in half precision the sums would not be exact
            return blocked_matmul(a, b)
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _EXACT_DEPTH):
        part = slice(start, start + _EXACT_DEPTH)
        total += (a[:, part].float() @ b[:, part].float().t()).to(torch.int32)
    return total


def kernel_name(device: torch.device) -> str:
    """Which integer matmul this kind of device gets: "fused", "onednn", "int_mm" or "blocked".

    Capability is measured, not looked up: on CPUs without VNNI the fast kernels may saturate their
    16-bit intermediate sums, and a device may lack an operator altogether.
    """
    if device.type not in _chosen:
        if torch.compiler.is_compiling():
            return "blocked"  # nothing can be measured while a graph is traced; this one is right everywhere
        with without_modes():  # nor can it by tensors that hold no values
            _chosen[device.type] = _measured(device)
    return _chosen[device.type]


def _measured(device: torch.device) -> str:
    with torch.device("cpu"):  # whatever the default device is
        generator = torch.Generator().manual_seed(0)
        a = torch.randint(-128, 128, (24, 512), generator=generator, dtype=torch.int8)
        b = torch.randint(-127, 128, (24, 512), generator=generator, dtype=torch.int8)
    a[0], a[1], b[0], b[1] = 127, -128, 127, -127  # the largest sums there can be
    exact = a.long() @ b.long().t()
    if not _is(exact, lambda: int_mm(a.to(device), b.to(device).t())):
        return "blocked"
    if device.type != "cpu" or not _is(exact, lambda: _by_onednn(a, b)):
        return "int_mm"
    loops = compiled()
    return "fused" if loops is not None and are_right(loops) else "onednn"


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    rows = Rows(a, b.new_ones(()), b.new_zeros(()))
    ones = b.new_ones(b.shape[0], dtype=torch.float32)
    return onednn.linear(rows.unsigned(), onednn.pack(b), ones, 1.0, 0, None)


def convolves(device: torch.device) -> bool:
    """Whether oneDNN's convolution of integers can be used, and is exact: measured, as above."""
    if kernel_name(device) not in PREPACKED:
        return False
    if _CONVOLUTION not in _chosen:
        with without_modes(), torch.device("cpu"):
            generator = torch.Generator().manual_seed(0)
            x = torch.randint(0, 256, (1, 32, 6, 6), generator=generator, dtype=torch.uint8)
            weight = torch.randint(-127, 128, (24, 32, 3, 3), generator=generator, dtype=torch.int8)
            x[..., :3, :], weight[0], weight[1] = 255, 127, -127  # the largest sums there can be
            exact = torch.nn.functional.conv2d(x.double() - SHIFT, weight.double()).long()
            _chosen[_CONVOLUTION] = "onednn" if _is(exact, lambda: _convolved_by_onednn(x, weight)) else ""
    return bool(_chosen[_CONVOLUTION])


def _convolved_by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    ones, zeros = weight.new_ones(24, dtype=torch.float32), weight.new_zeros(24, dtype=torch.float32)
    return onednn.convolution(x, onednn.pack_kernel(weight, ones, zeros, (1, 1), (1, 1)), 1.0, 0)


def _is(expected: Tensor, compute: Any) -> bool:
    try:
        return torch.equal(compute().cpu().long(), expected)
    except (RuntimeError, NotImplementedError, AttributeError):  # no such operator, or not for this device
        return False


def _int_mm_takes(a: Tensor, b: Tensor) -> bool:
    """CUDA's kernel wants more than 16 rows and multiples of 8; the CPU's is wrong for a depth of 1 (torch 2.13)."""
    if a.device.type != "cuda":
        return a.shape[0] > 0 and a.shape[1] > 1
    return a.shape[0] > 16 and a.shape[1] % 8 == 0 and b.shape[0] % 8 == 0

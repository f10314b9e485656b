"""The integer matrix product, exact on every device: the fastest kernel that can do it, chosen by capability."""

from __future__ import annotations

import torch
from torch import Tensor

_chosen: dict[str, str] = {}  # by type of device; a graph compiler can read it, unlike a cached function
_EXACT_DEPTH = 1024  # 1024 * 128 * 127 < 2**24: so many products add up exactly in float32


def int8_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The exact product of int8 (N, K) with the transpose of int8 (O, K): int32 (N, O)."""
    if kernel_name(a.device) == "int_mm" and _int_mm_takes(a, b):
        return torch._int_mm(a, b.t())
    return blocked_matmul(a, b)


def blocked_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The same product for any device: float32 products over depths so short that every sum is exact."""
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _EXACT_DEPTH):
        part = slice(start, start + _EXACT_DEPTH)
        total += (a[:, part].float() @ b[:, part].float().t()).to(torch.int32)
    return total


def _int_mm_takes(a: Tensor, b: Tensor) -> bool:
    """CUDA's kernel wants more than 16 rows and multiples of 8; the CPU's is wrong for a depth of 1 (torch 2.13)."""
    if a.device.type != "cuda":
        return a.shape[0] > 0 and a.shape[1] > 1
    return a.shape[0] > 16 and a.shape[1] % 8 == 0 and b.shape[0] % 8 == 0


def kernel_name(device: torch.device) -> str:
    """Which integer matmul this kind of device gets: "int_mm" where it is exact, else "blocked".

    Capability is measured, not looked up: on CPUs without VNNI ``torch._int_mm`` saturates its
    16-bit intermediate sums, and a device may lack the operator altogether.
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
    try:
        product = torch._int_mm(a.to(device), b.to(device).t()).cpu()
    except (RuntimeError, NotImplementedError):
        return "blocked"
    return "int_mm" if torch.equal(product.long(), a.long() @ b.long().t()) else "blocked"

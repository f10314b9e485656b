"""Weights at 2 to 8 bits with one scale for each group of inputs, packed so that the file is that small.

Groups as in Frantar et al. 2022 (GPTQ); rounding is to nearest. Weights are unpacked at each call:
this saves memory and disk, not time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.techniques.quantization.readable import QuantizedLayer

_LANES = 8  # codes packed together: 8 codes of b bits fill b bytes, whatever b is


class Packed(NamedTuple):
    """codes (O, ceil(I / 8) * bits) uint8; scales (O, groups) bfloat16, which has the range of float32.

    ``dtype`` is that of the weight that they were made of.
    """

    codes: Tensor
    scales: Tensor
    dtype: torch.dtype = torch.float32


def pack(codes: Tensor, bits: int) -> Tensor:
    """(O, I) non-negative integers below 2**bits to (O, ceil(I / 8) * bits) bytes."""
    padded = F.pad(codes.to(torch.int64), (0, -codes.shape[1] % _LANES)).unflatten(1, (-1, _LANES))  # (O, L, 8)
    lanes, positions = torch.arange(_LANES, device=codes.device), torch.arange(bits, device=codes.device)
    words = (padded << lanes * bits).sum(dim=-1, keepdim=True)  # (O, L, 1): at most 64 bits, none shared
    packed: Tensor = (words >> positions * 8 & 255).to(torch.uint8).flatten(1)
    return packed


def unpack(packed: Tensor, bits: int, length: int) -> Tensor:
    """The inverse of ``pack``: (O, length) integers."""
    if 8 % bits == 0:  # codes that do not cross bytes need no 64-bit words
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
        return (packed.unsqueeze(-1) >> shifts).bitwise_and_((1 << bits) - 1).flatten(1)[:, :length]
    lanes, positions = torch.arange(_LANES, device=packed.device), torch.arange(bits, device=packed.device)
    words = (packed.unflatten(1, (-1, bits)).to(torch.int64) << positions * 8).sum(dim=-1, keepdim=True)
    codes: Tensor = (words >> lanes * bits & (1 << bits) - 1).flatten(1)[:, :length]
    return codes


def quantize_groups(weight: Tensor, bits: int, group_size: int) -> Packed:
    """Quantize (O, I) floats symmetrically, each group of ``group_size`` inputs with its own scale.

    |w - q * scale| <= scale / 2. The scale is rounded up to bfloat16 first, so that the largest
    weight of a group is still on the grid.
    """
    steps, scales = group_steps(weight, bits, group_size)
    return Packed(pack(steps + 2 ** (bits - 1), bits), scales)


def group_steps(weight: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor]:
    """The same before it is packed: whole numbers (O, I) from -largest to largest, as floats, and scales (O, G)."""
    largest = 2 ** (bits - 1) - 1
    groups = F.pad(weight, (0, -weight.shape[1] % group_size)).unflatten(1, (-1, group_size))  # (O, G, S)
    exact = groups.abs().amax(dim=-1).div_(largest).clamp_(min=torch.finfo(torch.float32).tiny)
    rounded_up = exact * (1 + 2**-8)  # bfloat16 rounds by at most 2**-9
    scales = to_bfloat16(rounded_up.clamp_(max=torch.finfo(torch.bfloat16).max))
    steps = groups.div(scales.to(weight.dtype).unsqueeze(-1)).round_().flatten(1)[:, : weight.shape[1]]
    return steps, scales


def to_bfloat16(x: Tensor) -> Tensor:
    """Positive normal numbers, rounded by arithmetic: torch.compile leaves out a cast that is followed by another."""
    half, _ = torch.frexp(x)  # from 1/2 to 1, times a power of two
    power = x / (half * 2)  # exact, and finite
    return (half.mul(256).round_().div_(128) * power).to(torch.bfloat16)  # 8 bits: only this rounds


def of_groups(steps: Tensor, scales: Tensor, group_size: int) -> Tensor:
    """The floats (O, I) that they stand for."""
    width, length = scales.shape[1] * group_size, steps.shape[1]
    groups = F.pad(steps, (0, width - length)).unflatten(1, (-1, group_size))  # (O, G, S)
    floats: Tensor = groups.mul_(scales.to(steps.dtype).unsqueeze(-1)).flatten(1)[:, :length]
    return floats


class PackedLinear(QuantizedLayer):
    """A linear layer on packed weights of shape (O, I)."""

    scales: Tensor

    def __init__(self, packed: Packed, in_features: int, bits: int, group_size: int, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.hold(packed.codes, packed.dtype)
        self.in_features, self.out_features = in_features, packed.codes.shape[0]
        self.bits, self.group_size = bits, group_size
        self.register_buffer("scales", packed.scales)
        self.bias = bias

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.out_features, self.in_features

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """(O, I); scales may be beyond the range of half precision, weights are not."""
        wide = torch.promote_types(dtype, torch.float32)
        q = unpack(self.codes, self.bits, self.in_features).to(wide).sub_(2 ** (self.bits - 1))
        return of_groups(q, self.scales, self.group_size).to(dtype)

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return F.linear(input, self.dequantized(input.dtype), self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, group_size={self.group_size}"

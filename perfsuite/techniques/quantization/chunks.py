"""Weights quantized some rows at a time: what is made on the way is as large as a chunk, not as the layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from perfsuite.techniques.quantization.grid import on_grid, quantize_rows, scale_of
from perfsuite.techniques.quantization.layers import Quantized
from perfsuite.techniques.quantization.packing import Packed, quantize_groups

_ELEMENTS = 2**18  # of a chunk; packing takes some 40 bytes for each


def int8_rows(weight: Tensor) -> Quantized:
    """(O, I) floats on int8, with a scale for each row."""
    codes, scale = _joined(weight, quantize_rows)
    return Quantized(codes, scale, weight.dtype)


def int8_whole(weight: Tensor) -> Quantized:
    """(O, I) floats on int8, with one scale for all, repeated in (O, 1)."""
    low, high = (float(end) for end in torch.aminmax(weight))
    scale = scale_of(torch.tensor(max(-low, high), dtype=_wide(weight.dtype), device=weight.device))
    (codes,) = _joined(weight, lambda part: (on_grid(part, scale),))
    return Quantized(codes, scale.expand(len(weight), 1), weight.dtype)


def packed_rows(weight: Tensor, bits: int, group_size: int) -> Packed:
    """(O, I) floats at so many bits, with a scale for each group of inputs."""
    codes, scales = _joined(weight, lambda part: quantize_groups(part, bits, group_size)[:2])
    return Packed(codes, scales, weight.dtype)


def _joined(weight: Tensor, quantize: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What is made of each chunk (N, I), in float32 at least and without gaps, one below the other."""
    wide, given = _wide(weight.dtype), weight.detach()
    # The result lies below what is made on the way: freed, that is used again for the next chunk and the next layer.
    whole = tuple(each.new_empty((len(weight), *each.shape[1:])) for each in quantize(given[:1].to(wide).contiguous()))
    step = max(1, _ELEMENTS // max(1, weight.shape[1]))
    for start in range(0, len(weight), step):
        made = quantize(given[start : start + step].to(wide).contiguous())
        for all_rows, rows in zip(whole, made, strict=True):
            all_rows[start : start + step] = rows
    return whole


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)

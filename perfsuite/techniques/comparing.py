"""What a model answers beside what a result answers: the least signal to noise ratio of all outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perfsuite.models.generators import seed_everywhere
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import tensors_in

EQUAL_DB = 300.0
_NOTHING = 1e-6  # of the largest output: what is as small is rounding


def answers(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Every floating-point output, in float64 on the CPU, in order. Raises what the model raises."""
    seed_everywhere(0)  # the same random numbers for each call, of a model that draws some
    output = model(*inputs.args, **inputs.kwargs)
    return [tensor.detach().cpu().double() for tensor in tensors_in(output) if _is_compared(tensor)]


def decibels(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Of the output that follows worst; where the original is not finite, nothing is compared.

    Minus infinity for outputs of other shapes, and for numbers that became NaN or infinite. NaN for none to compare.
    """
    if [tensor.shape for tensor in before] != [tensor.shape for tensor in after]:
        return -math.inf
    finite = [(a[a.isfinite()], b[a.isfinite()]) for a, b in zip(before, after, strict=True)]
    sizes = [float(a.square().mean().sqrt()) if a.numel() else 0.0 for a, _ in finite]
    largest = max(sizes, default=0.0)
    found = [
        ratio(a, b) for (a, b), size in zip(finite, sizes, strict=True) if a.numel() and size >= _NOTHING * largest
    ]
    return min(found) if found else math.nan


def ratio(signal: Tensor, received: Tensor) -> float:
    """Signal to noise, in dB, at most 300."""
    noise = float((received - signal).norm())
    if not math.isfinite(noise):
        return -math.inf
    if noise == 0:
        return EQUAL_DB
    power = float(signal.norm())
    return min(EQUAL_DB, 20 * math.log10(power / noise)) if power else -math.inf


def _is_compared(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_quantized

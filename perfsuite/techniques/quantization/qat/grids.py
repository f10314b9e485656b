"""Floats on the grids of quantized layers: the numbers that those compute with, bit for bit, in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from perfsuite.techniques.quantization.chunks import int8_rows, int8_whole
from perfsuite.techniques.quantization.grid import LOWEST, STEPS
from perfsuite.techniques.quantization.layers import Quantized
from perfsuite.techniques.quantization.linear import affine_rows
from perfsuite.techniques.quantization.packing import group_steps, of_groups
from perfsuite.techniques.quantization.qat.straight_through import straight_through

WeightGrid = Callable[[Tensor], Tensor]
"""Puts a weight (O, I), without gradients, on the grid of a layer."""


def by_rows(weight: Tensor) -> Tensor:
    """On int8 with a scale for each row."""
    return _floats(int8_rows(weight))


def as_one(weight: Tensor) -> Tensor:
    """On int8 with one scale."""
    return _floats(int8_whole(weight))


@dataclass(frozen=True)
class ByGroups:
    """On so many bits, with a scale for each group of inputs."""

    bits: int
    group_size: int

    def __call__(self, weight: Tensor) -> Tensor:
        steps, scales = group_steps(_wide(weight), self.bits, self.group_size)
        return of_groups(steps, scales, self.group_size).to(weight.dtype)


def fake_weight(weight: Tensor, grid: WeightGrid, *, is_turned: bool = False) -> Tensor:
    """A weight (O, ...), or (I, O) where it ``is_turned``, on its grid; all of it is inside, and gets the gradient."""
    with torch.no_grad():
        values = grid(weight.t()).t() if is_turned else grid(weight.flatten(1)).view_as(weight)
    return straight_through(weight, values)


def fake_rows(x: Tensor, *, per_token: bool) -> Tensor:
    """Activations (..., I) on grids of their own, one for each row or one for all, which hold all of them."""
    with torch.no_grad():
        rows = affine_rows(_wide(x).reshape(-1, x.shape[-1]).contiguous(), per_token=per_token)
        values = rows.signed().to(rows.scale.dtype).sub_(rows.zero).mul_(rows.scale)
    return straight_through(x, values.view_as(x).to(x.dtype))


def fake_fixed(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Activations on the grid of scale () and zero (); what rounds to a step beyond its ends gets no gradient."""
    with torch.no_grad():
        wide, step, origin = _wide(x), _wide(scale), _wide(zero)
        steps = wide.mul(step.reciprocal()).add_(origin).round_()
        inside = (steps >= LOWEST) & (steps <= LOWEST + STEPS)
        values = steps.clamp_(LOWEST, LOWEST + STEPS).sub_(origin).mul_(step).add_(wide, alpha=0)  # infinity is NaN
    return straight_through(x, values.to(x.dtype), inside)


def _floats(quantized: Quantized) -> Tensor:
    """What a layer shows as its weight."""
    return quantized.codes.to(quantized.scale.dtype).mul_(quantized.scale).to(quantized.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""The gradient of rounding, which has none: that of no rounding at all, where the grid holds the value.

The straight-through estimator of Bengio et al. 2013, with the ends of the grid as in Jacob et al. 2018.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight_through(x: Tensor, values: Tensor, inside: Tensor | None = None) -> Tensor:
    """``values``, which were made of ``x`` without gradients; to ``x``, the gradient passes where it is ``inside``.

    All of the same shape; ``inside`` (bool) is everywhere, where there is none. What decides on a grid, such as the
    largest magnitude of a row, gets no gradient.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return values
    result: Tensor = _StraightThrough.apply(x, values, inside)  # type: ignore[no-untyped-call]  # torch declares none
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, inside: Tensor | None) -> Tensor:
        ctx.save_for_backward(inside)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] if inside is None else gradients[0].masked_fill(~inside, 0), None, None

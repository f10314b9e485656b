"""From floats to integer grids and back (Jacob et al. 2018; Krishnamoorthi 2018).

Weights are *symmetric*: w = q * scale. Activations are *affine*: x = (q - zero) * scale, with an
integer zero, so that 0 is exact and one-sided values (after a GELU, say) use the whole grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_TINY = {dtype: torch.finfo(dtype).tiny for dtype in (torch.float32, torch.float64)}
LARGEST = 127  # of a weight; -128 is not used: the grid is symmetric and 0 is exact
LOWEST, STEPS = -128, 254  # of an activation; one step less than fits, so that no rounding leaves the grid
SHIFT = 128  # from signed integers to unsigned ones


class Rows(NamedTuple):
    """Activations on the grid: q (N, K); scale and zero (N, 1), or () for all rows.

    q is int8, as operators make it, or uint8 and 128 more, as compiled loops make it for oneDNN.
    ``lost`` (N, 1) is NaN where the row held NaN or infinity, and else 0; None means that there are no such rows.
    """

    q: Tensor
    scale: Tensor
    zero: Tensor
    lost: Tensor | None = None

    def signed(self) -> Tensor:
        return self.q if self.q.dtype == torch.int8 else (self.q ^ SHIFT).view(torch.int8)

    def unsigned(self) -> Tensor:
        """128 more, which flips the highest bit."""
        return self.q if self.q.dtype == torch.uint8 else self.q.view(torch.uint8) ^ SHIFT

    def part(self, start: int, end: int) -> Rows:
        """Some of the rows, where each has a scale."""
        return Rows(self.q[start:end], self.scale[start:end], self.zero[start:end])


def quantize_rows(x: Tensor, largest: int = LARGEST) -> tuple[Tensor, Tensor]:
    """Quantize each row of (N, K) finite floats symmetrically to -largest..largest.

    Returns int8 (N, K) and scales (N, 1), positive and finite; |x - q * scale| <= scale / 2.
    """
    scale = scale_of(x.abs().amax(dim=-1, keepdim=True), largest)
    return on_grid(x, scale), scale


def scale_of(magnitude: Tensor, largest: int = LARGEST) -> Tensor:
    """The step of the grid on which ``largest`` stands for the largest magnitude; positive."""
    return magnitude.div(largest).clamp_(min=torch.finfo(magnitude.dtype).tiny)


def on_grid(x: Tensor, scale: Tensor) -> Tensor:
    """The nearest steps, as int8, of floats that the grid holds."""
    return x.div(scale).round_().to(torch.int8)


def affine_rows(x: Tensor, *, per_token: bool = True) -> Rows:
    """Quantize (N, K) floats with one scale and zero for each row (N, 1), or one for all ().

    A row that holds NaN or infinity gets a NaN scale, so that its results are NaN, too.
    """
    if per_token:
        low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)  # (N, 1); faster than aminmax
    else:
        low, high = torch.aminmax(x) if x.numel() else (x.new_zeros(()), x.new_zeros(()))
    scale, zero = affine_grid(low, high)
    return Rows(x.mul(scale.reciprocal()).add_(zero).round_().to(torch.int8), scale, zero)


def affine_grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero of the int8 grid that holds 0 and everything from ``low`` to ``high``.

    Values are multiplied by the reciprocal of the scale, and so is ``low`` here: an end rounds as its zero did.
    """
    low = low.clamp(max=0)
    scale = high.clamp(min=0).div_(STEPS).sub_(low / STEPS)  # no overflow on the way
    scale = scale.clamp_(min=_TINY[low.dtype]).sub_(scale, alpha=0)  # infinity becomes NaN
    return scale, LOWEST - low.mul_(scale.reciprocal()).round_()


def fixed_rows(x: Tensor, scale: Tensor, zero: Tensor) -> Rows:
    """Put (N, K) floats on a grid that is given: scale () and zero ()."""
    return Rows(to_grid(x, scale, zero), scale, zero, lost(x.detach()))


def lost(x: Tensor) -> Tensor:
    """For (N, K): NaN for each row that holds NaN or infinity, else 0, as (N, 1)."""
    return x.amax(dim=-1, keepdim=True).mul_(0).add_(x.amin(dim=-1, keepdim=True), alpha=0)


def to_grid(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The nearest int8 grid points; beyond the ends of the grid, the end."""
    return x.mul(scale.reciprocal()).add_(zero).round_().clamp_(LOWEST, LOWEST + STEPS).to(torch.int8)

"""How far two sets of numbers are apart, in units of what their type rounds to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_SMALL = 1e-3  # of the typical number of all tensors: below it, what is left of sums that cancel is noise


def farthest(
    ones: Mapping[str, Tensor], others: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]
) -> tuple[str, float]:
    """The name of the tensor that differs most, and by how many eps; 0 where all are equal bit for bit.

    Tensors are as large as they are typically, or as a thousandth of what is typical of all: some gradients are zero
    but for rounding, such as those of the biases of keys.
    """
    count = sum(value.numel() for value in others.values())
    typical = math.sqrt(sum(float(value.square().sum()) for value in others.values()) / max(1, count))
    found = {name: in_eps(ones[name], other, dtypes[name], _SMALL * typical) for name, other in others.items()}
    worst = max(found, key=lambda name: (found[name], name), default="")
    return worst, found.get(worst, 0.0)


def in_eps(one: Tensor, other: Tensor, dtype: torch.dtype, least: float) -> float:
    """The root mean square of the difference, relative to that of ``other`` (or ``least``), over the dtype's eps."""
    apart = _size(one.double() - other.double())
    if apart == 0:
        return 0.0
    scale = max(_size(other), least)
    return apart / (scale * torch.finfo(dtype).eps) if scale and math.isfinite(apart) else math.inf


def _size(tensor: Tensor) -> float:
    return math.sqrt(float(tensor.double().square().mean())) if tensor.numel() else 0.0

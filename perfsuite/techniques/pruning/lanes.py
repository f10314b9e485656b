"""Units of experts whose weights lie in one tensor (E, O, I): each expert is a lane, and has a choice of its own.

All lanes keep equally many units, so that the tensor stays one. What is (U,) of a layer is (E, U) here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfsuite.techniques.pruning.slices import Columns, Rows, Slice


@dataclass(frozen=True)
class _Lanes(Slice):
    """``along`` is the dimension of the parameter that units lie along; the first one is that of lanes."""

    tensor: str = ""
    along: int = 1

    @property
    def axis(self) -> int:
        return self.along

    @property
    def is_plain(self) -> bool:
        return super().is_plain and self.values.dim() > 1

    def by_unit(self, values: Tensor) -> Tensor:
        """(E, U, N)."""
        rows = values.movedim(self.along, 1)
        count = rows.shape[1] // self.per_count
        return rows.narrow(1, count * self.before, count * self.width).reshape(len(rows), count, -1)

    def index(self, units: Tensor) -> Tensor:
        """(E, K * width) for units (E, K), or (K,) of each lane."""
        lanes = units.cpu().expand(len(self.values), units.shape[-1])
        start = self.features // self.per_count * self.before
        return (start + lanes[..., None] * self.width + torch.arange(self.width)).flatten(1)

    def cut(self, index: Tensor) -> None:
        old: Any = self.values
        shape = [len(index), *[1] * (old.dim() - 1)]
        shape[self.along] = index.shape[1]
        whole = [size if at != self.along else index.shape[1] for at, size in enumerate(old.shape)]
        kept = old.detach().gather(self.along, index.to(old.device).reshape(shape).expand(whole))
        setattr(self.layer, self.tensor, torch.nn.Parameter(kept, old.requires_grad))


@dataclass(frozen=True)
class ExpertRows(_Lanes, Rows):
    """What computes the units of each expert."""


@dataclass(frozen=True)
class ExpertColumns(_Lanes, Columns):
    """What reads the units of each expert."""

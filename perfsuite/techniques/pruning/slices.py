"""The part of a layer that belongs to a row of units: rows, columns, or some of several that one layer computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.techniques.common import is_conv1d, is_linear
from perfsuite.techniques.quantization.alike import computes_linear


@dataclass(frozen=True)
class Slice:
    """The part of a layer that belongs to a group: ``width`` rows or columns of its weight for each unit.

    One layer may compute several things one after the other, such as queries, keys, values. ``before`` and ``after``
    say how many rows or columns for each unit stand before and after these (``fused`` counts them).
    ``tensor``: the parameter that is cut, where it is no layer's weight; the module that has it is the layer then.
    """

    layer: Any
    width: int = 1
    before: int = 0
    after: int = 0
    tensor: str = "weight"
    dim: ClassVar[int]
    vectors: ClassVar[tuple[str, ...]] = ()  # tensors (features,) that are cut along
    sizes: ClassVar[tuple[str, ...]]  # attributes that say how many features there are

    @property
    def features(self) -> int:
        """How many rows or columns the layer has: of all units, and of all that it computes."""
        sized = self.tensor == "weight" and getattr(self.layer, "num_features", None)
        return int(sized or self.values.shape[self.axis])

    @property
    def per_count(self) -> int:
        """How many of them go with each unit."""
        return self.before + self.width + self.after

    @property
    def values(self) -> Tensor:
        """The parameter that is cut."""
        found: Tensor = getattr(self.layer, self.tensor)
        return found

    @property
    def is_plain(self) -> bool:
        """Whether the parameter is the layer's own, and no subclass of ``nn.Linear`` computes something else."""
        is_other = isinstance(self.layer, nn.Linear) and not is_linear(self.layer) and not computes_linear(self.layer)
        return not is_other and own_parameters(self.layer).get(self.tensor) is not None

    @property
    def axis(self) -> int:
        """The dimension of the parameter that units lie along."""
        return 1 - self.dim if is_conv1d(self.layer) else self.dim

    def norms(self, values: Tensor) -> Tensor:
        """The L2 norm, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        return self.by_unit(values.double().square()).sum(dim=-1).sqrt()

    def per_unit(self, values: Tensor) -> Tensor:
        """Sums, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        return self.by_unit(values).sum(dim=-1)

    def by_unit(self, values: Tensor) -> Tensor:
        """What a tensor that is shaped like the layer's weight holds for each unit (U, N)."""
        rows = values.movedim(self.axis, 0)
        count = len(rows) // self.per_count
        return rows.narrow(0, count * self.before, count * self.width).reshape(count, -1)

    def index(self, units: Tensor) -> Tensor:
        """Which rows or columns belong to these units."""
        start = self.features // self.per_count * self.before
        return (start + units.cpu()[:, None] * self.width + torch.arange(self.width)).flatten()

    def cut(self, index: Tensor) -> None:
        """Keep these rows or columns of the layer alone, in place."""
        _cut(self.layer, self.tensor, self.axis, index)
        if self.tensor == "weight":
            for name in self.vectors:
                _cut(self.layer, name, 0, index)
            for name in self.sizes:
                if hasattr(self.layer, name):
                    setattr(self.layer, name, len(index))

    @property
    def owned(self) -> dict[tuple[nn.Module, str], int]:
        """Elements of what belongs to units, by layer and name: all parameters of a layer that computes them."""
        whole = isinstance(self, Rows) and self.tensor == "weight"
        names = own_parameters(self.layer) if whole else (self.tensor,)
        tensors = {name: own_parameters(self.layer).get(name) for name in names}
        return {(self.layer, name): p.numel() for name, p in tensors.items() if p is not None}


class Rows(Slice):
    """``width`` outputs of a layer for each unit: rows of a weight (O, I, ...), elements of a bias or batch norm."""

    dim = 0
    vectors = ("bias", "running_mean", "running_var")
    sizes = ("out_features", "out_channels", "num_features", "nf")


class Columns(Slice):
    """``width`` inputs of a layer for each unit: columns of a weight (O, I, ...)."""

    dim = 1
    sizes = ("in_features", "in_channels", "nx", "embedding_dim")


def fused(layer: Any, *widths: int) -> tuple[Rows, ...]:
    """The rows of a layer that computes several things one after the other, each ``width`` wide for each unit."""
    return tuple(Rows(layer, width, sum(widths[:at]), sum(widths[at + 1 :])) for at, width in enumerate(widths))


def _cut(layer: nn.Module, name: str, dim: int, index: Tensor) -> None:
    old = getattr(layer, name, None)
    if old is not None:
        new = old.detach().index_select(dim, index.to(old.device))
        setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)

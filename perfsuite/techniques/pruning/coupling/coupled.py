"""Units of a model as structured pruning takes them, beside the groups that architectures describe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perfsuite.techniques.pruning.coupling.units import Part, Units


@dataclass(frozen=True, eq=False)
class Coupled:
    """One row of units, in a model."""

    model: nn.Module
    units: Units

    @property
    def kind(self) -> str:
        return self.units.kind

    @property
    def name(self) -> str:
        return self.units.name

    @property
    def count(self) -> int:
        return self.units.count

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        return tuple(self.model.get_submodule(path) for path in sorted(self.units.modules))

    @property
    def readers(self) -> list[tuple[Tensor, Part]]:
        """The weights that read the units, and which of their columns do."""
        return [(part.places[0].of(self.model), part) for part in self.units.parts if "reads" in part.roles]

    def magnitude(self) -> Tensor:
        """For each unit (U,): the norm of all that computes it times the norm of all that reads it."""
        made = [part for part in self.units.parts if "makes" in part.roles]
        return self._norm(made) * self._norm([part for _, part in self.readers])

    def _norm(self, parts: list[Part]) -> Tensor:
        total = torch.zeros(self.count, dtype=torch.float64)
        for part in parts:
            weight = part.places[0].of(self.model).detach().cpu().double()
            total += part.per_unit(weight.square())
        return total.sqrt()

"""N:M patterns as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfsuite.errors import UsageError
from perfsuite.techniques.claims import Claims
from perfsuite.techniques.naming import Count, Grammar, Named
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Pattern(Named, Recorded):
    """``pattern-2:4``: of every M neighbouring inputs of a linear layer, the N largest weights are kept.

    The pattern of sparse tensor cores (Mishra et al. 2021). No speed is claimed: torch has no kernel
    for it on CPUs. A remainder of fewer than M inputs keeps its N largest, too.
    """

    keep: int = 2
    of: int = 4
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    grammar = Grammar("pattern", Count("keep", "of", example="2:4"))

    def __post_init__(self) -> None:
        if not 0 < self.keep <= self.of:
            raise UsageError(f"pattern {self.keep}:{self.of} is not possible", "write N:M with 0 < N <= M, such as 2:4")

    @property
    def claims(self) -> Claims:
        return Claims(sparsity=1 - self.keep / self.of)

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.zeros import prune_pattern
        from perfsuite.techniques.selection import selected

        return prune_pattern(model, selected(model, self.include, self.exclude), self.keep, self.of), {}

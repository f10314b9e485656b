"""Unstructured magnitude pruning as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.claims import Claims
from perfsuite.techniques.naming import Grammar, Named, Percent, Words
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Magnitude(Named, Recorded):
    """``magnitude-S``: the S percent of weights nearest to zero become zero (Han et al. 2015).

    ``scope`` "local" prunes each tensor to ``sparsity``; "global" (``magnitude-S-global``) prunes all
    of them together. Counts are exact: round(sparsity * numel), also under ties. ``parameters``: the
    names, within a layer, of what is pruned; ``include`` and ``exclude``: layers by name, pattern or
    type. Without ``include``, linear and convolution layers are pruned, and embeddings are not.
    """

    sparsity: float
    scope: Literal["local", "global"] = "local"
    parameters: tuple[str, ...] = ("weight",)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    grammar = Grammar("magnitude", Percent("sparsity"), Words("scope", {"global": "global"}))

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if self.scope not in ("local", "global"):
            raise UsageError(f"unknown scope {self.scope!r}", "use 'local' or 'global'")

    @property
    def claims(self) -> Claims:
        return Claims(sparsity=self.sparsity, series=self.grammar.series(self))

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.zeros import parameters_to_prune, prune

        weights = parameters_to_prune(model, self.parameters, self.include, self.exclude).values()
        prune(list(weights), self.sparsity, together=self.scope == "global")
        return model, {}


def check_sparsity(value: float, of: str = "weights") -> None:
    """Raises UsageError for what is not a fraction; ``of`` says what is removed."""
    if not 0 <= value <= 1:
        raise UsageError(f"sparsity {value} is not between 0 and 1", f"use 0.5 for half of the {of}")

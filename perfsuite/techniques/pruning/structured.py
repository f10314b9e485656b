"""Structured pruning as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.claims import Claims
from perfsuite.techniques.coverage import Removed
from perfsuite.techniques.naming import Grammar, Named, Percent, Words
from perfsuite.techniques.pruning.magnitude import check_sparsity
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Structured(Named, Recorded):
    """``structured-S``: S percent of the attention heads and feed-forward units (or channels) are removed.

    Physically: the tensors get smaller, and the result equals the model with those parts masked.

    ``heads`` and ``units`` are the fractions that go; at least one of each stays. ``importance``:
    "magnitude" of the weights, or "taylor" (``structured-S-taylor``), the first-order effect on the
    loss over calibration data (Molchanov et al. 2019, Michel et al. 2019). ``scope`` "global" ranks
    all layers together, so that counts differ per layer. ``round_to``: kept units are a multiple.
    """

    heads: float
    units: float
    importance: Literal["magnitude", "taylor"] = "magnitude"
    scope: Literal["local", "global"] = "local"
    round_to: int = 1
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    lets_be = "exclude"
    grammar = Grammar(
        "structured",
        Percent("heads", "units"),
        Words("importance", {"taylor": "taylor"}),
        Words("scope", {"global": "global"}),
    )

    def __post_init__(self) -> None:
        check_sparsity(self.heads, "heads")
        check_sparsity(self.units, "units")
        if self.importance not in ("magnitude", "taylor"):
            raise UsageError(f"unknown importance {self.importance!r}", "use 'magnitude' or 'taylor'")
        if self.scope not in ("local", "global"):
            raise UsageError(f"unknown scope {self.scope!r}", "use 'local' or 'global'")
        if self.round_to < 1:
            raise UsageError(f"round_to is {self.round_to}", "use 1, or what the hardware likes, such as 16")

    @property
    def claims(self) -> Claims:
        return Claims(heads=self.heads, units=self.units, series=self.grammar.series(self))

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.removal import remove

        return remove(model, self, data)

    def removed(self, structure: Mapping[str, Any]) -> dict[str, Removed]:
        fractions = {"heads": self.heads, "units": self.units}
        return {
            kind: self._removed(fractions[kind], structure["kept"][kind], of) for kind, of in structure["of"].items()
        }

    @staticmethod
    def _removed(fraction: float, kept: Mapping[str, int], of: Mapping[str, int]) -> Removed:
        return Removed(
            units=sum(of[name] - left for name, left in kept.items()),
            asked=sum(round(fraction * count) for count in of.values()),
            of=sum(of.values()),
            layers=len(of),
        )

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        from perfsuite.techniques.pruning.removal import shrink

        return shrink(model, structure)

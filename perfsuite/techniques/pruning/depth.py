"""Whole layers removed, as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfsuite.techniques.claims import Claims
from perfsuite.techniques.coverage import Removed
from perfsuite.techniques.naming import Grammar, Named, Percent
from perfsuite.techniques.pruning.magnitude import check_sparsity
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Depth(Named, Recorded):
    """``depth-S``: S percent of the layers of each stack are removed; at least one stays.

    With calibration data those go that change least what passes through them (Block Influence, Men et al. 2024);
    without data, layers at even distances stay, the first and the last among them (Sajjad et al. 2020).
    """

    layers: float
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    grammar = Grammar("depth", Percent("layers"))

    def __post_init__(self) -> None:
        check_sparsity(self.layers, "layers")

    @property
    def claims(self) -> Claims:
        return Claims(layers=self.layers, series=self.grammar.series(self))

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.pruning.dropping import drop

        return drop(model, self, data)

    def removed(self, structure: Mapping[str, Any]) -> dict[str, Removed]:
        stacks = structure["stacks"].values()
        counts = [(len(stack["kept"]), stack["now"], stack["of"]) for stack in stacks]
        return {
            "layers": Removed(
                units=sum(now - kept for kept, now, _ in counts),
                asked=sum(max(0, round(self.layers * of) - (of - now)) for _, now, of in counts),
                of=sum(now for _, now, _ in counts),
                layers=len(counts),
            )
        }

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        from perfsuite.techniques.pruning.dropping import restore

        return restore(model, structure)

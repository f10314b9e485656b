"""Int8 weights with calibrated activations, as a frozen value. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.errors import UsageError
from perfsuite.techniques.claims import Claims
from perfsuite.techniques.fidelity import WITH_RANGES, Promise
from perfsuite.techniques.naming import Grammar, Named, Words
from perfsuite.techniques.recorded import Digested, Recorded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.techniques.quantization.calibration import Histogram
    from perfsuite.techniques.quantization.choosing import Chosen

Ranges = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True)
class Int8Static(Named, Recorded):
    """``int8-static``: as int8-dynamic, with activation ranges fixed beforehand from calibration data.

    ``ranges``: "minmax" takes all that was seen, "percentile" leaves out the outermost
    ``1 - percentile`` of the values, "mse" clips where the mean squared error is least
    (``int8-static-mse`` and so on). Fused experts stay in float.
    """

    ranges: Ranges = "minmax"
    percentile: float = 0.9999
    embeddings: bool = True
    per_channel: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    grammar = Grammar("int8-static", Words("ranges", {word: word for word in ("minmax", "percentile", "mse")}))
    claims = Claims(bits=8)

    def __post_init__(self) -> None:
        if self.ranges not in ("minmax", "percentile", "mse"):
            raise UsageError(f"unknown ranges {self.ranges!r}", "use 'minmax', 'percentile' or 'mse'")
        if not 0.5 < self.percentile <= 1:
            raise UsageError(f"percentile {self.percentile} is not in (0.5, 1]", "use 0.9999, say")

    @property
    def promise(self) -> Promise:
        return WITH_RANGES

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        from perfsuite.techniques.quantization.calibration import calibrate

        chosen = self.chosen(model)
        return self._converted(
            model, chosen, calibrate(model, chosen.on_integers, data, self.range_of)
        ), chosen.structure

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        return self._converted(model, self.chosen(model, structure), {})

    def chosen(self, model: nn.Module, structure: Mapping[str, Any] | None = None) -> Chosen:
        """What it quantizes; not fused experts: calibration data may not reach all of them."""
        from perfsuite.techniques.quantization.choosing import Wanted, prepare
        from perfsuite.techniques.quantization.stored import kinds

        wanted = Wanted(kinds(bags=self.embeddings), self.embeddings, experts=False, convolutions=True)
        return prepare(model, self.include, self.exclude, wanted, structure)

    def range_of(self, seen: Histogram) -> tuple[float, float]:
        """The lowest and highest value that a grid shall hold, of the values that were seen."""
        match self.ranges:
            case "minmax":
                return seen.low, seen.high
            case "percentile":
                return seen.percentile(self.percentile)
            case "mse":
                return seen.least_error()

    def _converted(self, model: nn.Module, chosen: Chosen, grids: Mapping[str, tuple[Tensor, Tensor]]) -> nn.Module:
        """The model with activations on these grids, by the layer's name; zeros where there is none."""
        from perfsuite.techniques.quantization.makers import OnFixedGrids
        from perfsuite.techniques.quantization.quantize import to_int8

        return to_int8(model, chosen, OnFixedGrids(grids), per_channel=self.per_channel)

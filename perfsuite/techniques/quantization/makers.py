"""Who makes the layers that compute on integers: with activations quantized on the fly, or on grids fixed before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn

from perfsuite.techniques.quantization.convolution import Int8Convolution, StaticInt8Convolution
from perfsuite.techniques.quantization.layers import Grid, Int8Linear, Quantized, StaticInt8Linear


class Makers(Protocol):
    """Makes layers of quantized weights. ``kind``: the type of its linear layers."""

    kind: ClassVar[type[Int8Linear]]

    def linear(self, quantized: Quantized, bias: nn.Parameter | None, name: str) -> Int8Linear: ...

    def convolution(self, source: nn.Module, quantized: Quantized, name: str) -> Int8Convolution: ...


@dataclass(frozen=True)
class OnTheFly:
    """``per_token``: one scale for each token, and for each example of a convolution; else one for each call."""

    per_token: bool

    kind: ClassVar[type[Int8Linear]] = Int8Linear

    def linear(self, quantized: Quantized, bias: nn.Parameter | None, name: str) -> Int8Linear:
        return Int8Linear(quantized, bias, per_token=self.per_token)

    def convolution(self, source: nn.Module, quantized: Quantized, name: str) -> Int8Convolution:
        return Int8Convolution(source, quantized, per_example=self.per_token)


@dataclass(frozen=True)
class OnFixedGrids:
    """``grids``, by the layer's name; zeros where there are none, for a model that is to be loaded."""

    grids: Mapping[str, Grid]

    kind: ClassVar[type[Int8Linear]] = StaticInt8Linear

    def linear(self, quantized: Quantized, bias: nn.Parameter | None, name: str) -> Int8Linear:
        return StaticInt8Linear(quantized, bias, self._grid(quantized, name))

    def convolution(self, source: nn.Module, quantized: Quantized, name: str) -> Int8Convolution:
        return StaticInt8Convolution(source, quantized, self._grid(quantized, name))

    def _grid(self, quantized: Quantized, name: str) -> Grid:
        nothing = quantized.scale.new_zeros(())
        return self.grids[name] if self.grids else (nothing, nothing.clone())

"""Layers that are stored in int8 and compute in float: which there are, and who makes them. One file for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from perfsuite.techniques.quantization.alike import is_kernel
from perfsuite.techniques.quantization.bag import Int8EmbeddingBag, is_bag
from perfsuite.techniques.quantization.chunks import int8_rows
from perfsuite.techniques.quantization.layers import Quantized
from perfsuite.techniques.quantization.reading import reading_int8
from perfsuite.techniques.quantization.recurrent import Int8Recurrent, is_recurrent

RowsOf = Callable[[nn.Parameter], Quantized]
"""The codes of a weight, which are the same for a weight that several layers share."""


@dataclass(frozen=True)
class Kind:
    """``is_one``: whether a layer can be taken. ``make``: the layer in its place."""

    is_one: Callable[[nn.Module], bool]
    make: Callable[[Any, RowsOf], nn.Module]


def _kernel(module: Any, rows_of: RowsOf) -> nn.Module:
    layer: nn.Module = reading_int8(module, rows_of(module.weight))
    return layer


CONVOLUTION = Kind(is_kernel, _kernel)
RECURRENT = Kind(is_recurrent, Int8Recurrent)
BAG = Kind(is_bag, Int8EmbeddingBag)
KINDS = (CONVOLUTION, RECURRENT, BAG)


def kinds(*, bags: bool) -> tuple[Kind, ...]:
    """All kinds, with or without bags of embeddings."""
    return tuple(kind for kind in KINDS if bags or kind is not BAG)


def is_stored(module: nn.Module, some: tuple[Kind, ...] = KINDS) -> bool:
    """Whether it is of one of these kinds."""
    return any(kind.is_one(module) for kind in some)


class Store:
    """Makes such layers of one model."""

    def __init__(self) -> None:
        self._done: dict[nn.Parameter, Quantized] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        return next(kind for kind in KINDS if kind.is_one(module)).make(module, self._rows)

    def _rows(self, weight: nn.Parameter) -> Quantized:
        if weight not in self._done:
            self._done[weight] = int8_rows(weight.flatten(1))
        return self._done[weight]

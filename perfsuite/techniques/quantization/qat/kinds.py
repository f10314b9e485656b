"""Which layer stands in for which quantized one while a model is trained: one entry for each kind."""

from __future__ import annotations

from typing import Any

from torch import nn

from perfsuite.errors import TechniqueError
from perfsuite.techniques.quantization.bag import Int8EmbeddingBag
from perfsuite.techniques.quantization.convolution import Int8Convolution, StaticInt8Convolution
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.qat.grids import ByGroups, WeightGrid, by_rows
from perfsuite.techniques.quantization.qat.layers import (
    RANGE,
    FakeConvolution,
    FakeEmbedding,
    FakeLinear,
    FakeRecurrent,
    FakeStaticLinear,
    FakeWeight,
    become_fake,
)
from perfsuite.techniques.quantization.reading import Reading
from perfsuite.techniques.quantization.recurrent import Int8Recurrent

_INTEGERS = {StaticInt8Linear, Int8Linear, StaticInt8Convolution, Int8Convolution}
_KNOWN = {*_INTEGERS, PackedLinear, Int8Embedding, Int8EmbeddingBag, Int8Recurrent}  # a subclass may do something else


def stand_in(layer: nn.Module, quantized: nn.Module, grid: WeightGrid, name: str) -> None:
    """Let a float layer, in place, compute what ``quantized`` does. ``grid``: that of a linear weight on int8.

    Raises TechniqueError for a quantized layer that has no such counterpart.
    """
    given: dict[str, Any] = {"is_turned": getattr(quantized, "is_turned", False)}
    if type(quantized) not in _KNOWN and not isinstance(quantized, Reading):
        raise TechniqueError(
            f"layer {name!r} becomes a {type(quantized).__name__}, which cannot be trained for",
            f"leave it in float: exclude=({name!r},)",
        )
    match quantized:
        case StaticInt8Linear() | StaticInt8Convolution():
            ranges = {each: getattr(quantized, each).clone() for each in RANGE}
            become_fake(layer, FakeStaticLinear, weight_grid=grid, per_token=False, **given, **ranges)
        case Int8Linear():
            become_fake(layer, FakeLinear, weight_grid=grid, per_token=quantized.per_token, **given)
        case Int8Convolution():
            become_fake(layer, FakeConvolution, weight_grid=grid, per_token=quantized.per_example, **given)
        case PackedLinear():
            become_fake(layer, FakeWeight, weight_grid=ByGroups(quantized.bits, quantized.group_size), **given)
        case Int8Embedding():
            become_fake(layer, FakeEmbedding, weight_grid=by_rows, **given)
        case Int8Recurrent():
            become_fake(layer, FakeRecurrent, weight_grid=by_rows, **given)
        case _:
            become_fake(layer, FakeWeight, weight_grid=by_rows, **given)

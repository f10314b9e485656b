"""Layers whose own forward stays, and reads int8 in the place of its weight: embeddings and convolutions of any class.

What is computed with the weight is computed in floats, as before.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.techniques.quantization.layers import OnRows, Quantized


class Reading(OnRows):
    """Base of the classes that are made here: codes (O, K) int8 of a weight (O, ...) in ``shape``, scale (O,).

    A pickle finds one again by the class that it is made of.
    """

    original: type[nn.Module]
    shape: tuple[int, ...]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.shape

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """In the shape of the weight."""
        return super().dequantized(dtype).view(self.shape)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (self.original,), vars(self)


class ReadingProduct(Reading):
    """One that multiplies with the weight that it reads, in floats."""

    computes_in_float = True


@functools.cache
def _kind(original: Any) -> Any:
    """A subclass whose weight is read from codes: what ``original`` computes with it is computed as before."""
    base = Reading if issubclass(original, nn.Embedding) else ReadingProduct
    return type(f"Int8{original.__name__}", (base, original), {"original": original})


def _empty(original: type[nn.Module]) -> Any:
    key: Any = original  # a class is hashable, whatever its instances are
    kind = _kind(key)
    return kind.__new__(kind)


def reading_int8(module: nn.Module, quantized: Quantized) -> Any:
    """The same layer on int8 rows, with all that it has but the weight."""
    layer = _empty(type(module))
    vars(layer).update(
        {name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()}
    )
    weight = own_parameters(layer).pop("weight")
    assert weight is not None
    layer.shape = tuple(weight.shape)
    layer.hold_rows(quantized)
    return layer


def shown(module: Any) -> Any:
    """The same layer, whose weight is read as that of such a layer is, and is the float weight itself."""
    weight: Tensor = module.weight.detach()
    return reading_int8(module, Quantized(weight.flatten(1), weight.new_ones(()).expand(len(weight), 1), weight.dtype))

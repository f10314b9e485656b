"""Embeddings of a class of their own: its forward stays, and reads rows of int8 in the place of its weight."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.techniques.quantization.layers import OnRows, Quantized


class Table:
    """Base of the classes that are made here. A pickle finds one again by the class that it is made of."""

    original: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (self.original,), vars(self)


@functools.cache
def _kind(original: Any) -> Any:
    """A subclass whose weight is read from codes: what ``original`` computes with it is computed as before."""
    return type(f"Int8{original.__name__}", (Table, OnRows, original), {"original": original})


def _empty(original: type[nn.Embedding]) -> Any:
    key: Any = original  # a class is hashable, whatever its instances are
    kind = _kind(key)
    return kind.__new__(kind)


def int8_table(module: nn.Embedding, quantized: Quantized) -> Any:
    """The same embedding on int8 rows, with all that it has but the weight."""
    table = _empty(type(module))
    vars(table).update(
        {name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()}
    )
    del own_parameters(table)["weight"]
    table.hold_rows(quantized)
    return table


def shown_as_table(module: nn.Embedding) -> Any:
    """The same embedding, whose weight is read as that of a table is, and is the float weight itself."""
    weight: Tensor = module.weight.detach()
    return int8_table(module, Quantized(weight, weight.new_ones(()).expand(len(weight), 1), weight.dtype))

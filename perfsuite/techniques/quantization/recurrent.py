"""``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` with weights in int8, which become floats at each call, for all its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import call_recurrent, own_parameters, recurrent_names, without_weights
from perfsuite.techniques.quantization.layers import Quantized

_KINDS = (nn.LSTM, nn.GRU, nn.RNN)


def is_recurrent(module: Any) -> bool:
    """One of torch's own, whose weights are its parameters."""
    return type(module) in _KINDS and own_parameters(module).keys() == set(recurrent_names(module))


class Int8Recurrent(nn.Module):
    """In the place of such a layer: for each weight (O, I), codes (O, I) int8 and scale (O,); biases as they are."""

    computes_in_float = True
    # What torch's layers keep their weights in, too: here there is nothing.
    _flat_weights: tuple[Tensor, ...] = ()
    _flat_weight_refs: tuple[Any, ...] = ()

    def __init__(self, source: Any, rows_of: Callable[[nn.Parameter], Quantized]) -> None:
        super().__init__()
        self.names = tuple(recurrent_names(source))
        self.consumed = self.names  # parameters that are not to be put on this layer
        dtype = next(source.parameters()).dtype
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=source.weight_ih_l0.device), persistent=False)
        for name, parameter in own_parameters(source).items():
            assert parameter is not None
            if parameter.dim() > 1:
                quantized = rows_of(parameter)
                self.register_buffer(f"{name}_codes", quantized.codes)
                self.register_buffer(f"{name}_scale", quantized.scale.flatten().clone())
            else:
                self.register_parameter(name, parameter)
        self.layer = without_weights(source)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As the layer in whose place it is."""
        return call_recurrent(self.layer, [self._weight(name) for name in self.names], input, hx)

    def flatten_parameters(self) -> None:
        """Nothing is kept that could be flat."""

    def _weight(self, name: str) -> Tensor:
        codes = getattr(self, f"{name}_codes", None)
        if codes is None:
            bias: Tensor = getattr(self, name)
            return bias
        scale: Tensor = getattr(self, f"{name}_scale")
        wide = scale.to(torch.promote_types(scale.dtype, torch.float32)).unsqueeze(-1)
        weight: Tensor = (codes * wide).to(self.like.dtype)
        return weight

"""Replacing the layers of a model by quantized ones, and how ties are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters, unfuse
from perfsuite.techniques.carrying import carry
from perfsuite.techniques.common import is_conv1d, linear_weights, replace_modules
from perfsuite.techniques.quantization.pretrained import mark_pretrained
from perfsuite.techniques.quantization.readable import QuantizedLayer


def convert(
    model: nn.Module, chosen: Mapping[nn.Module, str], make: Callable[[nn.Module, str], nn.Module]
) -> nn.Module:
    """Put ``make(layer, name)`` in the place of each chosen layer, with all that somebody has put on that."""

    def replace(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.TransformerEncoderLayer):
            unfuse(module)
        if module not in chosen:
            return module
        made = make(module, chosen[module])
        if isinstance(made, QuantizedLayer):
            made.is_turned, made.place = is_conv1d(module), chosen[module]
        return carry(module, made, getattr(made, "consumed", ("weight", "bias"))).train(module.training)

    converted = replace_modules(model, replace)
    mark_pretrained(converted)
    return converted


class Memo:
    """Quantizes each weight once, so that tied weights stay tied: as a matrix, with a row for each output.

    Keyed by the parameter itself.
    """

    def __init__(self, quantize: Callable[[Tensor], Any]) -> None:
        self._quantize = quantize
        self._done: dict[Tensor, Any] = {}

    def __call__(self, module: nn.Module) -> Any:
        key = own_parameters(module)["weight"]
        assert key is not None
        if key not in self._done:
            weight = linear_weights(module).weight if is_conv1d(module) else key.detach().flatten(1)
            self._done[key] = self._quantize(weight)
        return self._done[key]

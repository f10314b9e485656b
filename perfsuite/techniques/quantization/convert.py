"""Replacing the layers of a model by quantized ones: which layers, and how ties are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters, unfuse
from perfsuite.errors import TechniqueError
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.common import is_linear, linear_weights, owns_weight, replace_modules
from perfsuite.techniques.experts import split_experts
from perfsuite.techniques.quantization.pretrained import mark_pretrained
from perfsuite.techniques.quantization.readable import QuantizedLayer
from perfsuite.techniques.selection import selected


def is_embedding(module: nn.Module) -> bool:
    return (
        type(module) is nn.Embedding and owns_weight(module) and module.max_norm is None
    )  # max_norm writes to the weight at each call


def prepare(
    model: nn.Module, include: Iterable[str], exclude: Iterable[str], embeddings: bool, *, experts: bool = True
) -> dict[nn.Module, str]:
    """Split packed attentions, and fused experts, in place; then the layers to quantize, with their names.

    A weight that also serves a layer that is not to be quantized stays as it is in both: ties are kept.
    Raises TechniqueError if there is nothing to quantize, or the model is quantized already.
    """
    found = next((name for name, module in model.named_modules() if isinstance(module, QuantizedLayer)), None)
    if found is not None:
        raise TechniqueError(
            f"the model is quantized already: {found or 'it'!r} holds integers", "quantize the original, once"
        )
    split_attention(model)
    if experts:
        split_experts(model)
    names = selected(model, tuple(include), tuple(exclude))
    wanted = {
        module: name
        for name, module in model.named_modules()
        if name in names and (is_linear(module) or (embeddings and is_embedding(module)))
    }
    elsewhere = {p for m in model.modules() if m not in wanted for p in own_parameters(m).values() if p is not None}
    chosen = {module: name for module, name in wanted.items() if own_parameters(module)["weight"] not in elsewhere}
    if not chosen:
        raise TechniqueError(
            "found no float linear or embedding layer to quantize",
            "use a model that has such layers, and do not exclude them all",
        )
    return chosen


def convert(model: nn.Module, chosen: dict[nn.Module, str], make: Callable[[nn.Module, str], nn.Module]) -> nn.Module:
    """Put ``make(layer, name)`` in the place of each chosen layer."""

    def replace(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.TransformerEncoderLayer):
            unfuse(module)
        return make(module, chosen[module]).train(module.training) if module in chosen else module

    converted = replace_modules(model, replace)
    mark_pretrained(converted)
    return converted


class Memo:
    """Quantizes each weight once, so that tied weights stay tied. Keyed by the parameter itself."""

    def __init__(self, quantize: Callable[[Tensor], Any]) -> None:  # a named tuple that has a dtype
        self._quantize = quantize
        self._done: dict[Tensor, Any] = {}

    def __call__(self, module: nn.Module) -> Any:
        key = own_parameters(module)["weight"]
        assert key is not None
        if key not in self._done:
            weight = linear_weights(module).weight if is_linear(module) else key
            wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32)).contiguous()
            self._done[key] = self._quantize(wide)._replace(dtype=weight.dtype)
        return self._done[key]

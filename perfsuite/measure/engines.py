"""What runs a model, and what can be seen of it: nothing is counted of work that torch does not do.

A technique may give a wrapper around another engine, whose weights are no tensors. Its operators, its memory and
its file would be counted as none, and pass every limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import StorageWeakRef, is_compiled
from perfsuite.measure.trace import Trace
from perfsuite.techniques.common import is_linear, linear_weights
from perfsuite.techniques.quantization.alike import is_kernel
from perfsuite.techniques.quantization.convolution import Int8Convolution
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.reading import ReadingProduct
from perfsuite.units import Unit, dtype_name, format_value

EAGER = "torch"
COMPILED = "torch.compile"


class Shell(nn.Module):
    """A callable in the shape of a module, so that all else sees modules only. It has no weights to count."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


def as_module(model: Callable[..., Any]) -> nn.Module:
    return model if isinstance(model, nn.Module) else Shell(model)


def engine_of(model: nn.Module) -> str:
    """What runs a module, as far as the module shows it; of a callable nobody knows."""
    if isinstance(model, Shell):
        return ""
    if isinstance(model, torch.jit.ScriptModule):
        return "TorchScript"
    return COMPILED if is_compiled(model) else EAGER


def why_not_seen(traces: Sequence[Trace], model: nn.Module | None, given: Sequence[Tensor]) -> str:
    """Why what torch dispatches is not what a call does; empty if it is."""
    first, last = traces[0], traces[-1]
    if not last.operators:
        return "no operator of torch was seen in a call"
    if model is None:
        return ""
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers(), *given)):
        return "the model or its input is on the device 'meta', where nothing is computed"
    if not last.computing:
        return "torch's operators only hand tensors on in it: something else computes"
    if not last.follows:
        return "no operator of torch leads from its inputs to its output: something else computes"
    return _why_partly(first, last, given)


def why_not_stored(model: nn.Module, trace: Trace, not_seen: str) -> str:
    """Why the saved file does not hold what a model computes with; empty if it does."""
    if isinstance(model, Shell) or not model.state_dict():
        return "its state dict is empty: what it computes with is not in the file"
    if not_seen:
        return f"{not_seen}, with what may not be in the file"
    held = _places((*model.parameters(), *model.buffers()))
    extra = sum(size for place, size in _places(trace.strangers).items() if place not in held)
    if extra > sum(held.values()):
        return f"it computes with {format_value(extra, Unit.BYTES)} that are not in its state dict"
    return ""


def layers_of(model: nn.Module) -> dict[str, int]:
    """Linear layers and convolutions by the precision that they compute in: int8, or what they hold or unpack."""
    return dict(Counter(kind for layer in model.modules() if (kind := _precision(layer))))


def _precision(layer: Any) -> str:
    """In which a layer multiplies with its weights; empty of one that does not."""
    if isinstance(layer, Int8Linear | Int8Convolution):
        return "int8"
    if isinstance(layer, PackedLinear):
        return f"float on {layer.bits} bits"
    if isinstance(layer, ReadingProduct):
        return "float on 8 bits"
    if is_linear(layer):
        return dtype_name(linear_weights(layer).weight.dtype)
    return dtype_name(layer.weight.dtype) if is_kernel(layer) else ""


def _why_partly(first: Trace, last: Trace, given: Sequence[Tensor]) -> str:
    """Part of the work may be somebody else's: what comes from there is another tensor in each call."""
    kept, enough = _places(first.strangers), max((tensor.numel() for tensor in given), default=0)
    for tensor in last.strangers:
        is_large = tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() >= enough
        if is_large and _places([tensor]).keys().isdisjoint(kept):
            return f"it makes a tensor of shape {tuple(tensor.shape)} without torch: something else computes"
    return ""


def _places(tensors: Iterable[Tensor]) -> dict[int, int]:
    """The bytes of memory that tensors have, by where it is; opaque ones have none that could be asked."""
    memory = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
    return {StorageWeakRef(storage).cdata: storage.nbytes() for storage in memory}

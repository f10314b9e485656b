"""Casting the tensors of a model in place, each to a dtype of its own; what shares memory shares it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, own_parameters
from perfsuite._compat.transformers import dtypes_when_loaded, is_pretrained_model

Layout = tuple[Any, ...]
Tensors = MutableMapping[str, Any]


def layout(tensor: Tensor) -> Layout | None:
    """Equal for tensors that are the same memory, seen in the same way, while they are alive. None without memory."""
    address = tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0
    if not address:
        return None
    return tensor.device, tensor.dtype, address, tensor.storage_offset(), tensor.shape, tensor.stride()


def floats(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Floating-point parameters and buffers, those that are not saved among them, each under its first name."""
    for tensors in (model.named_parameters(), model.named_buffers()):
        yield from ((name, tensor) for name, tensor in tensors if tensor.is_floating_point())


def all_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then buffers, each under all of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def dtypes_of_transformers(model: nn.Module, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """What in a model is not to be of ``dtype`` if it is cast to it, by name: what transformers keeps in fp32 then."""
    found: dict[str, torch.dtype] = {}
    for prefix, part in _outermost(model, ""):
        found |= {prefix + name: kept for name, kept in dtypes_when_loaded(part, dtype).items() if kept != dtype}
    return found


def cast_tensors(model: nn.Module, dtype_of: Callable[[str, Tensor], torch.dtype]) -> None:
    """Cast each floating-point tensor to the dtype that is said for its first name.

    A parameter stays the object that others are tied to.
    """
    places = Counter(layout(tensor) for _, tensor in all_tensors(model))
    done: dict[Any, tuple[Tensor, Tensor]] = {}  # with the old one: alive, so that nothing else comes to lie there
    seen: dict[int, tuple[Tensor, Tensor]] = {}  # the same by the old one's id: under its other names it is no other
    for name, tensors, key, tensor in _own_floats(model):
        if id(tensor) not in seen:
            dtype, place = dtype_of(name, tensor), layout(tensor)
            new = tensor.detach().to(dtype)
            if new.dtype != tensor.dtype and place is not None and places[place] > 1:
                new = done.setdefault((place, dtype), (tensor.detach(), new))[1]
            seen[id(tensor)] = tensor, new
        new = seen[id(tensor)][1]
        if new.dtype != tensor.dtype:
            _put(tensors, key, new)


def _own_floats(model: nn.Module) -> Iterator[tuple[str, Tensors, str, Tensor]]:
    for prefix, module in model.named_modules():
        for tensors in (own_parameters(module), own_buffers(module)):
            for key, tensor in list(tensors.items()):
                if tensor is not None and tensor.is_floating_point():
                    yield (f"{prefix}.{key}" if prefix else key), tensors, key, tensor


def _put(tensors: Tensors, key: str, value: Tensor) -> None:
    if isinstance(tensors[key], nn.Parameter):
        tensors[key].data = value
    else:
        tensors[key] = value


def _outermost(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The models of transformers that stand in no other one, with what their names begin with."""
    if is_pretrained_model(module):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _outermost(child, f"{prefix}{name}.")

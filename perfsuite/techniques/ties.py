"""Tensors that are one memory under several names: they stay so where a model is copied, or built again."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, own_parameters
from perfsuite.techniques.casting import all_tensors, layout

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def copied(model: AnyModule, shared: Iterable[Tensor] = ()) -> AnyModule:
    """A deep copy in which tied tensors are tied; it has those that are ``shared``, and no copies of them.

    ``copy.deepcopy`` gives each parameter memory of its own, also where two were given one memory through ``.data``:
    such are one parameter in the copy. A buffer that sees the memory of a parameter sees that of the copy's.
    """
    result = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    _tie_groups(result, _groups(model))
    return result


def unshare(model: nn.Module, shared: Iterable[Tensor]) -> None:
    """Give the model, in place, copies of these parameters where it has them; tied ones stay tied."""
    own: dict[Tensor, nn.Parameter | None] = dict.fromkeys(shared)
    for module in model.modules():
        for name, parameter in own_parameters(module).items():
            if parameter in own:
                own[parameter] = own[parameter] if own[parameter] is not None else copy.deepcopy(parameter)
                own_parameters(module)[name] = own[parameter]


def tie(model: nn.Module, stored_elsewhere: Mapping[str, str]) -> None:
    """Make one parameter, in place, of those that are one memory, or that a file says are stored under another name.

    A file may be of a model that was quantized: where it names other tensors of two layers, their weights are meant.
    """
    _tie_groups(model, _groups(model))
    for name, other in stored_elsewhere.items():
        weights = [f"{path.rpartition('.')[0]}.weight" for path in (name, other)]
        for mine, first in ((name, other), weights):
            one, two = _parameter(model, mine), _parameter(model, first)
            if one is not None and two is not None and (one.shape, one.dtype) == (two.shape, two.dtype):
                _tie(model, mine, two)
                break


def _groups(model: nn.Module) -> list[list[str]]:
    """Names of tensors that are the same memory, parameters first."""
    found = defaultdict(list)
    for name, tensor in all_tensors(model):
        found[layout(tensor)].append(name)
    return [names for place, names in found.items() if place is not None and len(names) > 1]


def _tie_groups(model: nn.Module, groups: list[list[str]]) -> None:
    tensors = dict(all_tensors(model))
    for first, *rest in groups:
        for name in rest:
            if layout(tensors[name]) != layout(tensors[first]) or isinstance(tensors[name], nn.Parameter):
                _tie(model, name, tensors[first])


def _tie(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, key = name.rpartition(".")
    module = model.get_submodule(path)
    if key in own_parameters(module):
        own_parameters(module)[key] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
    else:
        own_buffers(module)[key] = tensor.detach()


def _parameter(model: nn.Module, name: str) -> nn.Parameter | None:
    path, _, key = name.rpartition(".")
    module: Any = dict(model.named_modules(remove_duplicate=False)).get(path)
    return None if module is None else own_parameters(module).get(key)

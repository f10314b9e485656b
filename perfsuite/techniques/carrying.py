"""What a layer has beside what its class gives it: it goes along to the layer that takes its place.

Hooks, attributes, buffers, parameters and modules that somebody has put on a layer are called or read by the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from perfsuite._compat.torch import (
    carry_hooks,
    has_state_hooks,
    is_persistent,
    own_buffers,
    own_modules,
    own_parameters,
)

_ITS_OWN = frozenset(vars(nn.Module()))  # what each module has, whatever its class


def carry(old: nn.Module, new: nn.Module, consumed: Collection[str] = ("weight", "bias")) -> nn.Module:
    """Put on ``new``, and return, what ``old`` has and it lacks. ``consumed``: parameters that it is made of."""
    carry_hooks(old, new)
    for name, parameter in _lacking(own_parameters, old, new, consumed):
        new.register_parameter(name, parameter)
    for name, buffer in _lacking(own_buffers, old, new):
        new.register_buffer(name, buffer, persistent=is_persistent(old, name))
    for name, module in _lacking(own_modules, old, new):
        new.add_module(name, module)
    for name, value in vars(old).items():
        if name not in _ITS_OWN and not hasattr(new, name):
            object.__setattr__(new, name, value)
    return new


def _lacking(
    owned: Callable[[nn.Module], dict[str, Any]], old: nn.Module, new: nn.Module, consumed: Collection[str] = ()
) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in owned(old).items() if name not in owned(new) and name not in consumed]


def can_be_replaced(layer: Any, taken: Collection[str], consumed: Collection[str] = ("weight", "bias")) -> bool:
    """Whether another layer can take its place, and have all that it has. ``taken``: names that the other needs itself.

    Not where its forward is not that of its class, as accelerate sets it; nor where hooks read its state dict, whose
    names are others then.
    """
    owned = {*own_parameters(layer), *own_buffers(layer), *own_modules(layer)} - {*consumed}
    extra = {*vars(layer), *owned} - _ITS_OWN
    return "forward" not in extra and not has_state_hooks(layer) and extra.isdisjoint(taken)

"""Calling somebody's model and leaving it as it was: its modes, attributes and buffers, and the random generators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import PlainDispatchMode, own_buffers, own_parameters, writes_to_arguments
from perfsuite.models.generators import kept_random_state
from perfsuite.protocols import wants_gradients
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.techniques.casting import layout
from perfsuite.techniques.common import tensors_in
from perfsuite.techniques.counting import integer_form


@contextmanager
def visited(*models: nn.Module) -> Iterator[None]:
    """Run the body with models in eval mode, without gradients where they want none; afterwards all is as before."""
    kept = [(module, dict(vars(module)), _buffers(module)) for model in models for module in model.modules()]
    grads = any(wants_gradients(model) for model in models)
    with kept_random_state(), torch.set_grad_enabled(grads), _all_in_eval_mode(models), unwritten(*models):
        try:
            yield
        finally:
            for module, attributes, buffers in kept:
                _restore(module, attributes, buffers)


@contextmanager
def unwritten(*models: nn.Module) -> Iterator[None]:
    """What the body writes to parameters, which some forwards do, is taken back afterwards. Copies are made then only.

    Other parameters that were put in their place go, too.
    """
    modules = [module for model in models for module in model.modules()]
    owned = [(own_parameters(module), dict(own_parameters(module))) for module in modules]
    seen = [(p, p.data) for _, before in owned for p in before.values() if p is not None]
    writes = _Writes(data for _, data in seen)
    try:
        with writes:
            yield
    finally:
        for now, before in owned:
            if isinstance(now, dict):  # a scripted module lets nobody put others in their place
                now.update(before)
        for parameter, data in seen:
            if layout(parameter) != layout(data):
                parameter.data = data
        with torch.no_grad():
            for data, values in writes.before.values():
                data.copy_(values)


class _Writes(PlainDispatchMode):
    """Keeps what tensors held before an operator first writes to their memory: each, by its id, with a copy."""

    def __init__(self, watched: Iterable[Tensor]) -> None:
        super().__init__()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self._watched = defaultdict(list)
        for tensor in watched:
            self._watched[_address(tensor)].append(tensor)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if writes_to_arguments(function):
            for tensor in tensors_in((args, kwargs or {})):
                for data in self._watched.get(_address(tensor), ()):
                    if id(data) not in self.before:
                        self.before[id(data)] = data, data.clone()
        return function(*args, **(kwargs or {}))


def _address(tensor: Tensor) -> int:
    """Of the memory that a tensor looks at; 0 for one that has none."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _buffers(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Each buffer with a copy of its values; but for quantized weights, which no forward pass writes to."""
    if integer_form(module):
        return {}
    return {name: (b, b.detach().clone()) for name, b in own_buffers(module).items() if b is not None}


def _restore(module: nn.Module, attributes: dict[str, Any], buffers: dict[str, tuple[Tensor, Tensor]]) -> None:
    vars(module).clear()
    vars(module).update(attributes)
    with torch.no_grad():
        for name, (buffer, values) in buffers.items():
            own_buffers(module)[name] = buffer
            if buffer.shape == values.shape and not torch.equal(buffer, values):
                buffer.copy_(values)


@contextmanager
def _all_in_eval_mode(models: tuple[nn.Module, ...]) -> Iterator[None]:
    if not models:
        yield
        return
    with in_eval_mode(models[0]), _all_in_eval_mode(models[1:]):
        yield

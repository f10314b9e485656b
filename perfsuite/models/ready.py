"""A module fresh from its spec, made ready to be called and measured; what cannot be is refused by name."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from perfsuite.errors import ModelError
from perfsuite.protocols import ModelSpec, mark_gradients


def ready(spec: ModelSpec, module: object, device: torch.device) -> nn.Module:
    """The module in eval mode, on the device. Raises ModelError for no module, and for weights without values."""
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"model {spec.name!r} was built as {type(module).__name__}, which is no nn.Module", _remedy(module)
        )
    _check_weights(spec.name, module)
    with suppress(NotImplementedError):  # what torch.export made keeps the mode that it was exported in
        module.eval()
    if spec.grad:
        mark_gradients(module)
    return module.to(device)


def _remedy(module: object) -> str:
    if isinstance(module, torch.export.ExportedProgram):
        return "give the module in it: Built(program.module(), ...)"
    return "give a module, or gate what can be called with the fixture perf: perf(function, *args, latency='5%')"


def _check_weights(name: str, module: nn.Module) -> None:
    for key, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(
                f"{key!r} of model {name!r} is not initialised: the model was built lazily",
                "call it once in build, on inputs like those that it will get: module(example)",
            )
        if tensor.is_meta:
            raise ModelError(
                f"{key!r} of model {name!r} is on the meta device, and has no values",
                "give it some in build: module.to_empty(device='cpu'), then load or initialise the weights",
            )

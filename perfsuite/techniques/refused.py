"""Models that techniques cannot copy or change: refused with one sentence, before anything is changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from perfsuite._compat.torch import own_buffers, pre_hooks, tree_leaves
from perfsuite.errors import TechniqueError

_COMPUTED = {  # what computes a weight in a hook before each call: how it is taken off again
    "WeightNorm": "torch.nn.utils.remove_weight_norm(model.get_submodule({module!r}))",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm(model.get_submodule({module!r}))",
    "Pruning": "torch.nn.utils.prune.remove(model.get_submodule({module!r}), {name!r})",
}


def check_values(model: nn.Module) -> None:
    """Raises TechniqueError for the first tensor that has no values: of a lazy, a meta or an offloaded model."""
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise TechniqueError(
                f"{name!r} is not initialised: the model was built lazily",
                "call it once, on inputs like those that it will get: model(example)",
            )
        if tensor.is_meta:
            owner = model.get_submodule(name.rpartition(".")[0])
            if hasattr(owner, "_hf_hook"):
                raise TechniqueError(
                    f"{name!r} has no values here: accelerate has offloaded them",
                    "load the model without a device_map that offloads, or call "
                    "accelerate.hooks.remove_hook_from_submodules(model)",
                )
            raise TechniqueError(
                f"{name!r} is on the meta device, and has no values",
                "give it some: model.to_empty(device='cpu'), then load or initialise the weights",
            )


def check_copyable(model: nn.Module) -> None:
    """Raises TechniqueError for the first tensor that a forward pass has computed and left behind with its gradients.

    Weights that old-style hooks compute (weight_norm, spectral_norm, torch's pruning) are such, and cached activations.
    """
    for module_name, module in model.named_modules():
        for name, tensor in _kept_by(module):
            if tensor.grad_fn is not None:
                kind = next((kind for kind in map(_computed_by, pre_hooks(module)) if kind), "")
                where = repr(module_name) if module_name else "the model"
                remedy = _COMPUTED.get(kind, "model.get_submodule({module!r}).{name} = None")
                raise TechniqueError(
                    f"{name!r} of {where} was computed in a forward pass, and cannot be copied",
                    f"take it off first: {remedy.format(module=module_name, name=name)}",
                )


def check_changeable(model: nn.Module) -> None:
    """Raises TechniqueError for the first module whose code is compiled by torch.jit, and cannot be changed."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TechniqueError(
                f"{repr(name) if name else 'the model'} is scripted: torch.jit holds its layers",
                "apply the technique to the model as it was before torch.jit.script or torch.jit.trace",
            )


def _kept_by(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a module's attributes, also in containers, but for parameters."""
    attributes: dict[str, Any] = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    for name, value in (*attributes.items(), *own_buffers(module).items()):
        leaves = [value] if isinstance(value, Tensor) else []
        if isinstance(value, list | tuple | dict):
            leaves = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        yield from ((name, leaf) for leaf in leaves)


def _computed_by(hook: object) -> str:
    if isinstance(hook, torch.nn.utils.prune.BasePruningMethod):
        return "Pruning"
    return type(hook).__name__ if type(hook).__module__.startswith("torch.nn.utils.") else ""

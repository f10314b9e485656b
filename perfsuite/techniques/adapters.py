"""Adapters beside layers, as peft puts them there (LoRA, DoRA, IA3 and others). They have to be merged first."""

from __future__ import annotations

import torch
from torch import nn

from perfsuite._compat.torch import own_modules
from perfsuite.errors import TechniqueError

_MERGE = "merge it: model = model.merge_and_unload()"


def check_merged(model: nn.Module) -> None:
    """Raises TechniqueError for the first layer with an adapter that is not merged.

    Such a wrapper computes with its ``base_layer`` and with weights of its own, and shows the former's as its own
    ``weight``: the layer inside would be pruned or quantized for itself, and what the model was tuned by would be lost.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # is refused elsewhere, and its children are no dict
            continue
        base = own_modules(module).get("base_layer")
        if base is not None:
            where = repr(name) if name else "the model"
            package = type(module).__module__.partition(".")[0]
            raise TechniqueError(
                f"{where} is a {type(base).__name__} with an adapter of {package} that is not merged",
                _MERGE if hasattr(model, "merge_and_unload") else f"load it as a peft.PeftModel, and {_MERGE}",
            )

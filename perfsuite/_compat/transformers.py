"""All that perfsuite uses of transformers without transformers promising it.

All of it was seen on transformers 5.23. tests/compat/test_transformers.py has a test for each. Importing this does not
import transformers: where nobody has loaded it, no model is one of its.
"""

from __future__ import annotations

import copy
import re
import sys
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

Dtypes = dict[str, torch.dtype]


def is_pretrained_model(module: nn.Module) -> bool:
    """Whether it is a ``PreTrainedModel`` as transformers has it: built from a config alone.

    A class of one's own may do anything when it is built, such as fetching a model; those that come with weights of the
    hub (``transformers_modules``) are built from a config, too.
    """
    loaded = sys.modules.get("transformers.modeling_utils")
    if loaded is None or not isinstance(module, loaded.PreTrainedModel):
        return False
    return type(module).__module__.startswith(("transformers.", "transformers_modules."))


def dtypes_when_loaded(model: nn.Module, dtype: torch.dtype) -> Dtypes:
    """Each floating-point parameter and buffer of a PreTrainedModel, as ``from_pretrained(dtype=dtype)`` has it.

    That builds the model on the meta device with ``dtype`` as the default: what a module makes in fp32 on purpose, such
    as the frequencies of rotary positions, stays so. ``_get_dtype_plan`` adds names that are loaded in fp32. Of a model
    that cannot be built once more (a class of one's own, a config that was changed), only the frequencies are known.
    """
    try:
        twin = _on_meta(type(model), _config_as_built(model, dtype), dtype)
    except Exception:  # constructors raise anything
        return {name: torch.float32 for name, _ in model.named_buffers() if name.endswith("inv_freq")}
    found = {name: tensor.dtype for name, tensor in _tensors(twin) if tensor.is_floating_point()}
    plan: Any = getattr(twin, "_get_dtype_plan", lambda _: {})(dtype)
    loaded = twin.state_dict().keys()
    for pattern, planned in plan.items():  # patterns are as in a file's names: only what is loaded has one
        found |= {name: planned for name in found if name in loaded and re.search(pattern.replace("*", ".*"), name)}
    return found


def attention_of(config: Any) -> dict[str, str]:
    """The choice of torch's kernel or plain operators, which ``to_dict`` leaves out; others are for some GPUs."""
    chosen = getattr(config, "_attn_implementation", None)
    return {"attn_implementation": chosen} if chosen in ("eager", "sdpa") else {}


def _config_as_built(model: Any, dtype: torch.dtype) -> Any:
    """As ``from_pretrained`` gives it to the class. Models of several parts build each in the dtype of its config."""
    config = copy.deepcopy(model.config)
    for part in filter(None, (config, *(getattr(config, name, None) for name in config.sub_configs))):
        for field, value in getattr(part, "perfsuite_built", {}).items():  # before units were removed
            setattr(part, field, value)
        part.dtype = dtype
    return config


def _on_meta(kind: Any, config: Any, dtype: torch.dtype) -> nn.Module:
    with ExitStack() as contexts:
        for context in kind.get_init_context(dtype, False, False, None):  # as from_pretrained enters them
            contexts.enter_context(context)
        model: nn.Module = kind(config)
    return model


def _tensors(model: nn.Module) -> Any:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)

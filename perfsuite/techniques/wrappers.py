"""What stands around a model and is no part of it: compilers, and what spreads calls over devices."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from perfsuite._compat.torch import COMPILED, compiled_from

PREFIXES = (f"{COMPILED}.", "module.")  # of the names of tensors


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, of what torch.compile, DataParallel or DistributedDataParallel made of it."""
    inner = model.module if isinstance(model, DataParallel | DistributedDataParallel) else compiled_from(model)
    return model if inner is None else unwrapped(inner)


def prefix_of(names: Iterable[str], model: nn.Module) -> str:
    """What wrappers have put before all of these names of tensors, and the model does not; empty if there is none."""
    names, children = list(names), {name for name, _ in model.named_children()}
    prefix = ""
    while names:
        found = next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)), None)
        if found is None or (prefix + found).split(".")[0] in children:
            break
        prefix += found
    return prefix

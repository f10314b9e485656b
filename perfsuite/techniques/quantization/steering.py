"""Layers that choose experts stay in float: they are small, and where two experts are near, a rounding takes the other.

That is another function, and no noise that averages out: GShard, Switch and Mixtral keep them in float, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import nn

from perfsuite.techniques.common import is_linear, linear_weights

_WORDS = re.compile(r"router|gating|gate(?!d)", re.IGNORECASE)
_NAMES = ("router", "gate")
_FEW = 4  # times as many inputs as outputs, at least


def routers(model: nn.Module, candidates: Collection[nn.Module]) -> set[nn.Module]:
    """The linear layers with few outputs that are called so, or are in a module of a class that is."""
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    return {
        module
        for name, module in model.named_modules()
        if module in candidates and is_linear(module) and _has_few_outputs(module) and _is_called_so(name, classes)
    }


def says_router(word: str) -> bool:
    """Whether a name of a class says that it chooses experts."""
    return _WORDS.search(word) is not None


def _is_called_so(name: str, classes: dict[str, str]) -> bool:
    above, _, last = name.rpartition(".")
    return last in _NAMES or says_router(classes[above])


def _has_few_outputs(module: nn.Module) -> bool:
    outputs, inputs = linear_weights(module).weight.shape
    return bool(1 < outputs * _FEW <= inputs)

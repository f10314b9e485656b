"""Chains in plain models: a linear or convolution layer, what acts on each unit by itself, the next such layer.

Found in the traced graph (torch.fx), so that a value that is also read elsewhere, as by a residual
connection, is never taken for prunable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid,
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_POINTWISE_CALLS = {
    F.relu, F.gelu, F.silu, F.leaky_relu, F.elu, F.dropout, torch.relu, torch.tanh, torch.sigmoid, F.tanh, F.sigmoid,
    "relu", "tanh", "sigmoid",
}  # fmt: skip
_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
_POOL_CALLS = {F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d}


@dataclass(frozen=True)
class Chain:
    """``width``: how many inputs of the sink read one unit of the source (more than one after a flatten)."""

    name: str
    source: nn.Module
    norms: tuple[nn.Module, ...]
    sink: nn.Module
    width: int


def chains(model: nn.Module) -> Iterator[Chain]:
    """Every chain of the model; of one that cannot be traced, those of its ``nn.Sequential`` parts."""
    if type(model) in (nn.Linear, *_CONVOLUTIONS):
        return
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception:  # tracing runs the model's own code, which may fail in any way
        for name, child in model.named_children():
            yield from (_renamed(chain, f"{name}.{chain.name}") for chain in chains(child))
        return
    yield from _chains_of(model, graph)


def _chains_of(model: nn.Module, graph: fx.Graph) -> Iterator[Chain]:
    calls = Counter(model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op == "call_module":
            source = model.get_submodule(str(node.target))
            if _is_layer(source):
                chain = _follow(model, node, source)
                if chain is not None and all(calls[m] == 1 for m in (chain.source, *chain.norms, chain.sink)):
                    yield chain


def _follow(model: nn.Module, node: fx.Node, source: Any) -> Chain | None:
    """From a layer to the next one, as long as units stay apart and nobody else looks on."""
    name, flat, convolution = str(node.target), False, isinstance(source, _CONVOLUTIONS)
    norms: list[nn.Module] = []
    while len(node.users) == 1:
        before, node = node, next(iter(node.users))
        if node.op in ("call_function", "call_method") and node.args[:1] != (before,):
            return None
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and _is_layer(module):
            width = _width(source, module, flat)
            return Chain(name, source, tuple(norms), module, width) if width else None
        if isinstance(module, _NORMS):
            norms.append(module)
        elif convolution and not flat and _is_flatten(node, module):
            flat = True
        elif not (_is_pointwise(node, module) or (convolution and not flat and _is_pool(node, module))):
            return None
    return None


def _is_layer(module: Any) -> bool:
    if isinstance(module, _CONVOLUTIONS):
        return bool(module.groups == 1)
    return type(module) is nn.Linear


def _width(source: Any, sink: Any, flat: bool) -> int:
    """Inputs of the sink for each unit of the source; 0 if they do not fit together."""
    if isinstance(source, nn.Linear):
        return 1 if type(sink) is nn.Linear and sink.in_features == source.out_features else 0
    if isinstance(sink, nn.Linear):
        return sink.in_features // source.out_channels if flat and sink.in_features % source.out_channels == 0 else 0
    return 1 if not flat and sink.in_channels == source.out_channels else 0


def _is_flatten(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    arguments = (*node.args[1:], *node.kwargs.values())
    return node.target in (torch.flatten, "flatten") and arguments == (1,)


def _is_pointwise(node: fx.Node, module: nn.Module | None) -> bool:
    return isinstance(module, _POINTWISE) or (module is None and node.target in _POINTWISE_CALLS)


def _is_pool(node: fx.Node, module: nn.Module | None) -> bool:
    return isinstance(module, _POOLS) or (module is None and node.target in _POOL_CALLS)


def _renamed(chain: Chain, name: str) -> Chain:
    return Chain(name, chain.source, chain.norms, chain.sink, chain.width)

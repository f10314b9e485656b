"""Chains in plain models: a linear or convolution layer, what acts on each unit by itself, the next such layer.

Found in the traced graph (torch.fx), so that a value that is also read elsewhere, as by a residual
connection, is never taken for prunable.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from perfsuite.techniques.common import owns_weight

_POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid,
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_POINTWISE_CALLS = {
    F.relu, F.gelu, F.silu, F.leaky_relu, F.elu, F.dropout, torch.relu, torch.tanh, torch.sigmoid, F.tanh, F.sigmoid,
    "relu", "tanh", "sigmoid",
}  # fmt: skip
_NORMS = {nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
_POOLS: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.Conv1d: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    nn.Conv2d: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    nn.Conv3d: (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
}
_POOL_CALLS: dict[type[nn.Module], set[Any]] = {
    nn.Conv1d: {F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d},
    nn.Conv2d: {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d},
    nn.Conv3d: {F.max_pool3d, F.avg_pool3d, F.adaptive_avg_pool3d},
}


@dataclass(frozen=True)
class Chain:
    """Names of the layers. ``width``: how many inputs of the sink, and of each norm, read one unit of the source."""

    source: str
    norms: tuple[tuple[str, int], ...]
    sink: str
    width: int


def chains(model: nn.Module) -> tuple[Chain, ...]:
    """Every chain of the model, in order.

    A model that cannot be traced is searched for ``nn.Sequential`` parts, which are taken to be run as a
    whole: one whose layers are called one by one from outside must be excluded.
    """
    if type(model) in _NORMS or type(model).__module__.startswith("transformers."):
        return ()
    try:
        graphs = tuple(_traces(model))
    except Exception:  # tracing runs the model's own code, which may fail in any way
        return _in_parts(model)
    first, *others = (tuple(_chains_of(model, graph)) for graph in graphs)
    return tuple(chain for chain in first if all(chain in other for other in others))


def _in_parts(model: nn.Module) -> tuple[Chain, ...]:
    return tuple(
        _below(name, chain)
        for name, child in model.named_children()
        for chain in (chains(child) if type(child) is nn.Sequential else _in_parts(child))
    )


def _traces(model: nn.Module) -> Iterator[fx.Graph]:
    """Graphs of all the ways that a call may take: training or not, with optional arguments or without.

    A copy is traced: the forward may leave something behind in the module that runs it.
    """
    optional = {
        name: parameter.default
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    for training in (False, True):
        for concrete in ({}, optional) if optional else ({},):
            copied = copy.deepcopy(model).train(training)
            yield fx.symbolic_trace(copied, concrete_args=concrete).graph


def _chains_of(model: nn.Module, graph: fx.Graph) -> Iterator[Chain]:
    calls = Counter(model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}  # as tensors
    for node in graph.nodes:
        if node.op == "call_module" and _is_layer(model.get_submodule(str(node.target))):
            chain = _follow(model, node)
            if chain is not None:
                names = (chain.source, chain.sink, *(name for name, _ in chain.norms))
                if all(calls[model.get_submodule(name)] == 1 and name not in read for name in names):
                    yield chain


def _follow(model: nn.Module, node: fx.Node) -> Chain | None:
    """From a layer to the next one, as long as units stay apart and nobody else looks on."""
    name, flat = str(node.target), False
    norms: list[tuple[str, int]] = []
    source: Any = model.get_submodule(name)
    units = source.out_features if isinstance(source, nn.Linear) else source.out_channels
    while len(node.users) == 1:
        before, node = node, next(iter(node.users))
        if node.op in ("call_function", "call_method") and node.args[:1] != (before,):
            return None
        module: Any = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and _is_layer(module):
            width = _width(source, units, module, flat)
            return Chain(name, tuple(norms), str(node.target), width) if width else None
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if not _fits(source, units, module, flat):
                return None
            norms.append((str(node.target), module.num_features // units))
        elif not flat and _is_flatten(source, node, module):
            flat = True
        elif not (_is_pointwise(node, module) or (not flat and _is_pool(source, node, module))):
            return None
    return None


def _is_layer(module: Any) -> bool:
    """A plain layer whose weight is its own parameter, and not computed from others."""
    plain = type(module) is nn.Linear or (type(module) in _POOLS and module.groups == 1)
    return plain and owns_weight(module)


def _width(source: nn.Module, units: int, sink: Any, flat: bool) -> int:
    """Inputs of the sink for each unit of the source; 0 if they do not fit together."""
    if type(sink) is nn.Linear:
        fits = sink.in_features % units == 0 if flat else type(source) is nn.Linear and sink.in_features == units
        return sink.in_features // units if fits else 0
    return 1 if not flat and type(sink) is type(source) and sink.in_channels == units else 0


def _fits(source: nn.Module, units: int, norm: Any, flat: bool) -> bool:
    """Whether a batch norm normalises each unit by itself; after a flatten, each of its positions."""
    if flat:
        return isinstance(norm, nn.BatchNorm1d) and norm.num_features % units == 0
    return isinstance(norm, _NORMS[type(source)]) and norm.num_features == units


def _is_flatten(source: nn.Module, node: fx.Node, module: nn.Module | None) -> bool:
    if type(source) is nn.Linear:
        return False  # its units are the last dimension, not the second
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    arguments = (*node.args[1:], *node.kwargs.values())
    return node.target in (torch.flatten, "flatten") and arguments == (1,)


def _is_pointwise(node: fx.Node, module: nn.Module | None) -> bool:
    return isinstance(module, _POINTWISE) or (module is None and node.target in _POINTWISE_CALLS)


def _is_pool(source: nn.Module, node: fx.Node, module: nn.Module | None) -> bool:
    kind = type(source)
    return isinstance(module, _POOLS.get(kind, ())) or (module is None and node.target in _POOL_CALLS.get(kind, ()))


def _below(parent: str, chain: Chain) -> Chain:
    norms = tuple((f"{parent}.{name}", width) for name, width in chain.norms)
    return Chain(f"{parent}.{chain.source}", norms, f"{parent}.{chain.sink}", chain.width)

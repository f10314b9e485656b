"""Forwards that write to weights in place, as RWKV's halves some at its first call: found in their source.

Integers cannot be written to so, which such layers stay in float for. What the forward remembers of it, in attributes
of its module, is as much a part of the model as the weights are.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from torch import nn

from perfsuite.techniques.source import source_of

_NO_VALUES = {"requires_grad_", "retain_grad_", "share_memory_"}  # in-place methods that write none


@dataclass(frozen=True)
class Writing:
    """What the forward of a class writes: ``layers``, to the weights of which, and ``attributes`` of its own.

    A layer is a pattern of the path to it, with a dot before: ".head", ".layers.*"; "*.output" where that begins at a
    variable, and "*" where it is one.
    """

    layers: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()


def written_layers(model: nn.Module) -> frozenset[str]:
    """Names of the modules of a model to whose weights some forward writes in place."""
    found = set()
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for pattern in _writing(module).layers:
            own = (below for below, _ in module.named_modules() if fnmatchcase(f".{below}", pattern))
            found |= {(prefix + below).removesuffix(".") for below in own}
    return frozenset(found)


def remembered(model: nn.Module) -> dict[str, dict[str, bool | int | float]]:
    """By module, the plain attributes that a forward sets which also writes to weights: whether it has, say."""
    found = {
        name: {key: vars(module)[key] for key in _writing(module).attributes if _is_plain(vars(module).get(key))}
        for name, module in model.named_modules()
    }
    return {name: values for name, values in found.items() if values}


def remember(model: nn.Module, values: dict[str, dict[str, bool | int | float]]) -> None:
    """Set such attributes, in place, where the model has them."""
    known = remembered(model)
    for name, attributes in values.items():
        for key in attributes.keys() & known.get(name, {}).keys():
            setattr(model.get_submodule(name), key, attributes[key])


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _writing(module: nn.Module) -> Writing:
    kind: Any = type(module)
    return Writing() if kind.__module__.startswith("torch.nn.") else _of_class(kind)


@cache
def _of_class(kind: Any) -> Writing:
    nodes = [node for tree in _reached(kind) for node in ast.walk(tree)]
    layers = frozenset(path for node in nodes for target in _written(node) if (path := _layer(target)) is not None)
    if not layers:
        return Writing()
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    own = (target for target in targets if isinstance(target, ast.Attribute) and _path(target)[:1] == ["self"])
    return Writing(layers, frozenset(target.attr for target in own if len(_path(target)) == 2))


def _reached(kind: Any) -> Iterator[ast.AST]:
    """The forward, and the methods that it calls, of each class in which they are defined."""
    waiting, seen = ["forward"], {"forward"}
    while waiting:
        name = waiting.pop()
        bases = (base for base in kind.__mro__ if base is not nn.Module and inspect.isfunction(vars(base).get(name)))
        for source in filter(None, [source_of(base, name) for base in bases]):
            tree = _parsed(source)
            yield tree
            called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - seen
            seen |= called
            waiting += [each for each in sorted(called) if not hasattr(nn.Module, each)]


def _parsed(source: str) -> ast.AST:
    try:
        return ast.parse(source)
    except SyntaxError:  # a part of a line, as of a lambda
        return ast.Module([], [])


def _written(node: ast.AST) -> list[ast.expr]:
    """What a statement or a call writes to in place."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        writes = name.endswith("_") and not name.endswith("__") and name not in _NO_VALUES
        return [node.func.value] if writes else []
    if isinstance(node, ast.AugAssign):
        return [node.target]
    return list(node.targets) if isinstance(node, ast.Assign) else []


def _layer(target: ast.expr) -> str | None:
    """The pattern of the layer whose weight a target is; None for what is no weight."""
    path = _path(target)
    ends = [number for number, part in enumerate(path) if number and _is_weight(part)]
    if not ends or "grad" in path:
        return None
    root, *below = path[: ends[0]]
    return "".join(("" if root == "self" else "*", *(f".{part}" for part in below))) or "."


def _is_weight(name: str) -> bool:
    return name == "weight" or name.startswith("weight_")


def _path(node: ast.expr) -> list[str]:
    """``self.blocks[0].output.weight.data`` as ["self", "blocks", "*", "output", "weight", "data"]."""
    if isinstance(node, ast.Subscript):
        return [*_path(node.value), "*"]
    if isinstance(node, ast.Attribute):
        return [*_path(node.value), node.attr] if _path(node.value) else []
    return [node.id] if isinstance(node, ast.Name) else []

"""What the forward of a class reads of its instance: how layouts that many families share are told from others.

Hundreds of classes of transformers hold ``q_proj``, ``k_proj``, ``v_proj`` and ``o_proj``. One that reads nothing else
than what is known computes what is known; one that also reads a bias for each head, or a norm over all heads, does not.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection
from functools import cache
from typing import Any

from torch import nn

from perfsuite.techniques.source import source_of

_UNKNOWN = frozenset({"<no source>"})


def reads_only(module: nn.Module, names: Collection[str]) -> bool:
    """Whether the forward of a module reads nothing else of it, also in the methods that it calls."""
    kind: Any = type(module)
    return "forward" not in vars(module) and reads(kind) <= frozenset(names)


@cache
def reads(kind: Any) -> frozenset[str]:
    """The attributes that forward reads, also in methods that it calls; what no class has, where there is no source."""
    found: set[str] = set()
    waiting, seen = ["forward"], {"forward"}
    while waiting:
        source = source_of(kind, waiting.pop())
        if not source or "super()" in source:
            return _UNKNOWN
        for name in _attributes(source) - seen:
            seen.add(name)
            if inspect.isfunction(getattr(kind, name, None)):
                waiting.append(name)
            else:
                found.add(name)
    return frozenset(found)


@cache
def follows(kind: Any, first: str, then: str) -> bool:
    """Whether some method hands what ``self.first`` gives to ``self.then``, changed by activations and dropout alone.

    It has to be written as transformers does: ``x = act(self.first(y))``, lines that begin with ``x =``, and then a
    call of ``self.then(x)``.
    """
    within = re.compile(
        rf"(?P<x>\w+) = (?:\w+\()?(?:self\.\w+\()?self\.{first}\([^\n]*\n"
        rf"(?P<between>(?:\s*(?P=x) = [^\n]*\n|\s*#[^\n]*\n|\s*\n)*)"
        rf"[^\n]*self\.{then}\((?P=x)\b"
    )
    methods = [name for base in kind.__mro__ if base.__module__ != nn.Module.__module__ for name in vars(base)]
    matches = (within.search(source_of(kind, name)) for name in dict.fromkeys(methods))
    found = [match for match in matches if match]
    return bool(found) and all(_attributes_in_text(match["between"]) <= _BETWEEN for match in found)


@cache
def sizes_from_input(kind: Any) -> bool:
    """Whether forward gives its heads the width of what goes in, as ``view(batch, length, hidden_size)`` does."""
    return bool(
        re.search(
            r"(?:view|reshape)\([^)\n]*, (?:embed_dim|hidden_size|channels|hidden_dim)\)", source_of(kind, "forward")
        )
    )


_BETWEEN = {
    "activation_fn", "activation", "act", "dropout", "dropout1", "dropout2", "activation_dropout",
    "activation_dropout_fn", "training", "config",
}  # fmt: skip


def _attributes(source: str) -> set[str]:
    """What is read of ``self``; of its config the field, as ``config.sliding_window``."""
    tree = ast.parse(source)
    fields = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            of_config = node.attr == "config" and id(node) in fields
            found.add(f"config.{fields[id(node)]}" if of_config else node.attr)
    return found


def _attributes_in_text(text: str) -> set[str]:
    return set(re.findall(r"self\.(\w+)", text))

"""Which sizes a graph is right for: what torch.export found out about the dimensions of its inputs.

A relation between sizes that no range can express, such as that of height and width before a layer of a fixed width,
makes them *bound*: they have to be those of the example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor

from perfsuite.export.signature import Range

_SMALLEST_SYMBOLIC = 2  # torch.export never lets a symbol be 0 or 1; what it makes of the module is right for 1, too
_AXES = ("batch", "sequence")
_TRIED, _FEW = 512, 8  # sizes that are tried, to see which of them are treated in another way; more than few are a rule
Axes = frozenset[tuple[int, int]]  # (number of the input, axis)


class Sizes:
    """Of the inputs of an exported program, in their order."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        nodes = [placeholders[name] for name in program.graph_signature.user_inputs if isinstance(name, str)]
        self._shapes = [[_expression(size) for size in node.meta["val"].shape] for node in nodes]
        symbolic = [size for node in nodes for size in node.meta["val"].shape if not isinstance(size, int)]
        self._relations = list(_relations(symbolic[0].node.shape_env)) if symbolic else []
        self._limits = program.range_constraints
        self._names: dict[Any, str] = {}
        self.equal = dict(_equal(self._relations))

    def bound(self) -> Axes:
        """The axes of sizes that have to do with each other, or are multiples of something.

        Those of batches only where no other axis can be held: then their relation may be gone.
        """
        symbols = {symbol for relation in self._relations for symbol in self._bound_by(relation)}
        axes = frozenset(
            (number, axis)
            for number, shape in enumerate(self._shapes)
            for axis, size in enumerate(shape)
            if not isinstance(size, int) and size.free_symbols & symbols
        )
        return frozenset(place for place in axes if place[1] > 0) or axes

    def dimensions(self, number: int, owner: str) -> tuple[int | str, ...]:
        """Of one input: numbers, and names. The first two axes that change are the batch and the sequence of all.

        The first axis is the batch, but for an input that has it on another one, as the state of an RNN has.
        """
        found: list[int | str] = []
        names = [self._names.get(self.equal.get(size, size)) for size in self._shapes[number][1:]]
        for axis, size in enumerate(self._shapes[number]):
            if isinstance(size, int):
                found.append(size)
                continue
            usual = _AXES[axis] if axis < len(_AXES) else ""
            is_free = (usual == "batch" and usual not in names) or (usual and usual not in self._names.values())
            found.append(self._names.setdefault(self.equal.get(size, size), usual if is_free else f"{owner}_{axis}"))
        return tuple(found)

    def ranges(self) -> dict[str, Range]:
        """Of each name that ``dimensions`` has given."""
        ranges: dict[str, Range] = {}
        for symbol, name in self._names.items():
            here = _range(self._limits.get(symbol), sorted(self._exceptions(symbol)))
            ranges[name] = _both(ranges[name], here) if name in ranges else here
        return ranges

    def _exceptions(self, symbol: Any) -> set[int]:
        alone = [r for r in self._relations if isinstance(r, sympy.Ne) and r.free_symbols == {symbol}]
        return {size for relation in alone for size in _missed(relation)}

    def _bound_by(self, relation: Any) -> set[Any]:
        symbols: set[Any] = relation.free_symbols
        if isinstance(relation, sympy.Ne):
            if len(symbols) == 1:
                return symbols if len(_missed(relation)) > _FEW else set()
            return set() if relation.rhs.is_Integer else symbols  # with a number: whether memory is contiguous
        is_range = len(symbols) == 1 and (relation.lhs.is_Symbol or relation.rhs.is_Symbol)
        is_known = is_range and not isinstance(relation, sympy.Eq)
        return set() if is_known or symbols <= self.equal.keys() | set(self.equal.values()) else symbols


def examples(tensors: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """The inputs to export with, best first: a size of 1 would be taken for a constant, so that there are two of it."""
    batch = _twice(tensors, 0)
    yield from {id(found): found for found in (_twice(batch, 1), batch, tensors)}.values()


def _twice(tensors: tuple[Tensor, ...], axis: int) -> tuple[Tensor, ...]:
    """All inputs twice along an axis, where they all have one of it."""
    those = [tensor for tensor in tensors if tensor.dim() > axis]
    if not those or not all(tensor.shape[axis] == 1 for tensor in those):
        return tensors
    return tuple(torch.cat([tensor, tensor], axis) if tensor.dim() > axis else tensor for tensor in tensors)


def tiled(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Another shape: the first elements along each axis, over and over where there are fewer."""
    for axis, size in enumerate(shape):
        if size != tensor.shape[axis]:
            tensor = tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])
    return tensor


def dynamic_shapes(tensors: Sequence[Tensor], bound: Axes) -> tuple[dict[int, Any], ...]:
    """What torch.export is told: an axis that is not bound may change."""
    dim: Any = torch.export.Dim
    return tuple(
        {axis: dim.STATIC if (number, axis) in bound else dim.AUTO for axis in range(tensor.dim())}
        for number, tensor in enumerate(tensors)
    )


def _expression(size: Any) -> Any:
    """A number, or an expression of symbols. A symbol that turned out to be a number still looks like a symbol."""
    found = size if isinstance(size, int) else size.node.expr
    return int(found) if isinstance(found, int) or found.is_Integer else found


def _relations(environment: Any) -> Iterator[Any]:
    """All that was assumed of the sizes while the module was followed."""
    for guard in environment.guards:
        relation = guard.expr.xreplace(environment.replacements)
        if relation.free_symbols and isinstance(relation, sympy.core.relational.Relational):
            yield relation


def _equal(relations: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Symbols that are at most as large as each other: (one, the other)."""
    at_most = {(r.gts - r.lts).expand() for r in relations if isinstance(r, sympy.Le | sympy.Ge)}
    for difference in at_most:
        if len(difference.free_symbols) == 2 and (-difference).expand() in at_most:
            one, other = sorted(difference.free_symbols, key=str)
            if difference in (one - other, other - one):
                yield one, other


def _missed(relation: Any) -> list[int]:
    """The sizes for which a relation of one symbol does not hold, or has no meaning."""
    (symbol,) = relation.free_symbols
    return [size for size in range(1, _TRIED) if not _holds(relation, symbol, size)]


def _holds(relation: Any, symbol: Any, size: int) -> bool:
    try:
        return bool(relation.xreplace({symbol: sympy.Integer(size)}))
    except (ZeroDivisionError, TypeError):  # TypeError: the truth of something that is no number
        return False


def _range(limits: Any, exceptions: Sequence[int]) -> Range:
    low, high = (int(limits.lower), limits.upper) if limits is not None else (1, sympy.oo)
    low = 1 if low <= _SMALLEST_SYMBOLIC else low
    while low in exceptions:
        low += 1
    top = int(high) if high.is_Integer and high < 2**31 else None
    return Range(low, top, tuple(size for size in exceptions if size > low and (top is None or size <= top)))


def _both(a: Range, b: Range) -> Range:
    highs = [high for high in (a.high, b.high) if high is not None]
    return Range(max(a.low, b.low), min(highs) if highs else None, tuple(sorted({*a.without, *b.without})))

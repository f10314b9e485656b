"""A module as a graph of torch.export whose batch and sequence may change, with its signature."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.export.signature import Argument, Constant, Range, Signature, dtype_name
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import main_output

_SMALLEST_SYMBOLIC = 2  # torch.export never lets a symbol be 0 or 1; what it makes of the module is right for 1, too
_AXES = ("batch", "sequence")


@dataclass(frozen=True)
class Graph:
    program: torch.export.ExportedProgram
    signature: Signature


@dataclass(frozen=True)
class Bound:
    """The arguments of one call, by name: tensors apart from what is fixed in the graph."""

    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Constant]
    positional: tuple[str, ...]  # what was given by position
    parameters: tuple[str, ...]  # all that can be


def exported(module: nn.Module, inputs: Inputs) -> Graph:
    """The graph of a module, made on a copy. Raises TechniqueError for one that torch.export cannot follow."""
    bound = bind(module, inputs)
    flat = Flat(copy.deepcopy(module).eval(), bound)
    example = _with_room(tuple(bound.tensors.values()))
    dynamic = tuple(dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO) for tensor in example)
    try:
        with torch.no_grad():
            program = torch.export.export(flat, example, dynamic_shapes=(dynamic,), strict=False)
    except Exception as error:
        raise TechniqueError(
            f"the model does not export: {_first_line(error)}",
            "rewrite what the message names without Python that depends on values, or gate it in eager torch",
        ) from error
    return Graph(program, _signature(program, bound, flat))


def bind(module: nn.Module, inputs: Inputs) -> Bound:
    """The arguments by the names that the module's forward gives them. Raises TechniqueError for nested ones."""
    known = inspect.signature(module.forward).parameters.values()
    ordered = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = tuple(ordered + [f"input_{place}" for place in range(len(ordered), len(inputs.args))])
    given = {**dict(zip(names, inputs.args, strict=False)), **inputs.kwargs}
    for name, value in given.items():
        if not isinstance(value, Tensor | bool | int | float | str | None):
            raise TechniqueError(
                f"the input {name!r} is a {type(value).__name__}: only tensors and plain values can be exported",
                "wrap the model in a module that takes tensors",
            )
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    if not tensors:
        raise TechniqueError("the model is called without a tensor", "give it one, so that it can be exported")
    constants = {name: value for name, value in given.items() if not isinstance(value, Tensor)}
    return Bound(tensors, constants, names[: len(inputs.args)], names)


@dataclass
class Seen:
    """What a traced call returned: kept apart from the module, whose attributes torch.export puts back afterwards."""

    names: tuple[str, ...] = ()
    returns: Literal["tensor", "tuple", "mapping"] = "tensor"


class Flat(nn.Module):
    """A module that takes tensors in order and returns a tuple of them: what every runtime can do."""

    def __init__(self, module: nn.Module, bound: Bound) -> None:
        super().__init__()
        self.module = module
        self.bound = bound
        self.seen = Seen()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        values = {**self.bound.constants, **dict(zip(self.bound.tensors, tensors, strict=True))}
        args = [values.pop(name) for name in self.bound.positional]
        found = self.module(*args, **values)
        outputs = named_outputs(found)
        self.seen.names = tuple(outputs)
        if not isinstance(found, Tensor):
            self.seen.returns = "tuple" if isinstance(found, tuple | list) else "mapping"
        return tuple(outputs.values())


def named_outputs(output: Any) -> dict[str, Tensor]:
    """The tensors at the top of an output; where there is none, the main one. Raises OutputError."""
    if isinstance(output, Mapping):
        items = dict(output)
    elif is_dataclass(output) and not isinstance(output, type):
        items = {field.name: getattr(output, field.name, None) for field in fields(output)}
    else:
        items = dict(enumerate(output)) if isinstance(output, list | tuple) else {}
    tensors = {str(name): value for name, value in items.items() if isinstance(value, Tensor)}
    return tensors or {"output": main_output(output)}


def _with_room(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Twice the same example where there is one: a size of 1 would be taken for a constant."""
    if not all(tensor.dim() and tensor.shape[0] == 1 for tensor in tensors):
        return tensors
    return tuple(torch.cat([tensor, tensor]) for tensor in tensors)


def _signature(program: torch.export.ExportedProgram, bound: Bound, flat: Flat) -> Signature:
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    nodes = [placeholders[name] for name in program.graph_signature.user_inputs if isinstance(name, str)]
    names: dict[str, str] = {}
    inputs = tuple(
        Argument(name, dtype_name(tensor.dtype), tuple(_dimensions(node.meta["val"].shape, name, names)))
        for (name, tensor), node in zip(bound.tensors.items(), nodes, strict=True)
    )
    bounds = {str(symbol): limits for symbol, limits in program.range_constraints.items()}
    ranges: dict[str, Range] = {}
    for symbol, name in names.items():
        here = _range(bounds.get(symbol))
        ranges[name] = _both(ranges[name], here) if name in ranges else here
    seen = flat.seen
    return Signature(inputs, seen.names, ranges, bound.parameters, dict(bound.constants), seen.returns)


def _dimensions(shape: Any, owner: str, names: dict[str, str]) -> list[int | str]:
    """Numbers, and names: the first two axes that change are the batch and the sequence of all inputs."""
    found: list[int | str] = []
    for axis, size in enumerate(shape):
        if isinstance(size, int) or size.node.expr.is_number:  # torch leaves some that it has found out as symbols
            found.append(int(size))
            continue
        symbol = str(size.node.expr)
        usual = _AXES[axis] if axis < len(_AXES) else ""
        is_free = usual == "batch" or (usual and usual not in names.values())
        found.append(names.setdefault(symbol, usual if is_free else f"{owner}_{axis}"))
    return found


def _range(limits: Any) -> Range:
    if limits is None:
        return Range()
    low, high = int(limits.lower), limits.upper
    return Range(1 if low <= _SMALLEST_SYMBOLIC else low, int(high) if high.is_Integer and high < 2**31 else None)


def _both(a: Range, b: Range) -> Range:
    highs = [high for high in (a.high, b.high) if high is not None]
    return Range(max(a.low, b.low), min(highs) if highs else None)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

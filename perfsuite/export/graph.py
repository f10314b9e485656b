"""A module as a graph of torch.export whose batch and sequence may change, with its signature."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from perfsuite.errors import TechniqueError, UsageError, first_line
from perfsuite.export.quiet import quiet
from perfsuite.export.signature import Argument, Constant, Signature
from perfsuite.export.sizes import Axes, Sizes, dynamic_shapes, examples, tiled
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import items_of, main_output
from perfsuite.units import dtype_name


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
    """The graph of a module in evaluation, made on a copy, for as many sizes as it is right for.

    Raises TechniqueError for a module that torch.export cannot follow.
    """
    bound = bind(module, inputs)
    given = tuple(bound.tensors.values())
    flat = Flat(copy.deepcopy(module).eval(), bound)
    *others, plain = examples(given)
    for example in others:
        with contextlib.suppress(TechniqueError, UsageError):
            graph = _graph(flat, example)
            graph.signature.check(given)
            return graph
    return _graph(flat, plain)


def _graph(flat: Flat, example: tuple[Tensor, ...], fixed: Axes = frozenset()) -> Graph:
    """With the axes that are fixed as in the example, and those that turn out to be bound to them."""
    try:
        with torch.no_grad(), quiet():
            shapes = dynamic_shapes(example, fixed)
            program = torch.export.export(flat, example, dynamic_shapes=(shapes,), strict=False)
    except Exception as error:
        raise TechniqueError(
            f"the model does not export: {first_line(error)}",
            "rewrite what the message names without Python that depends on values, or gate it in eager torch",
        ) from error
    sizes = Sizes(program)
    if more := sizes.bound() - fixed:
        return _graph(flat, example, fixed | more)
    return Graph(program, _that_answers(_signature(sizes, flat.bound, flat.seen), flat, example))


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
    tensors = {str(name): value for name, value in items_of(output).items() if isinstance(value, Tensor)}
    return tensors or {"output": main_output(output)}


def _signature(sizes: Sizes, bound: Bound, seen: Seen) -> Signature:
    inputs = tuple(
        Argument(name, dtype_name(tensor.dtype), sizes.dimensions(number, name))
        for number, (name, tensor) in enumerate(bound.tensors.items())
    )
    return Signature(inputs, seen.names, sizes.ranges(), bound.parameters, dict(bound.constants), seen.returns)


def _that_answers(signature: Signature, flat: Flat, example: tuple[Tensor, ...]) -> Signature:
    """Without sizes of 1 that the module itself has no answer for: torch.export never shows what it does there."""
    sizes = signature.sizes(example)

    def is_refused(name: str) -> bool:
        shapes = [argument.resolved({**sizes, name: 1}) for argument in signature.inputs]
        try:
            with torch.no_grad(), quiet():
                flat(*map(tiled, example, shapes))
        except Exception:  # the module's own code runs, which may fail in any way
            return True
        return False

    ranges = {
        name: replace(here, low=2) if here.low == 1 and is_refused(name) else here
        for name, here in signature.ranges.items()
    }
    return replace(signature, ranges=ranges)

"""What every technique does first: check the weights, and copy the model so that the given one stays as it is."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_modules, own_parameters
from perfsuite.errors import NonFiniteError, OutputError, TechniqueError, first_line
from perfsuite.techniques.references import put_in_place
from perfsuite.techniques.refused import check_copyable, check_values
from perfsuite.techniques.ties import copied


def check_finite(model: nn.Module) -> None:
    """Raises NonFiniteError, naming the first parameter that holds NaN or infinity, or buffer that holds NaN.

    A buffer may be infinite on purpose: many causal masks are. Raises TechniqueError for a parameter
    that is sparse or not floating point, and for a tensor without values.
    """
    check_values(model)
    for name, p in model.named_parameters():
        if p.layout is not torch.strided:
            raise TechniqueError(
                f"parameter {name!r} is sparse ({p.layout})",
                "keep dense weights, or gate the call alone with the fixture perf: perf(model, inputs, latency='5%')",
            )
        if not p.is_floating_point():
            raise TechniqueError(
                f"parameter {name!r} holds {p.dtype} numbers", "techniques take models with real floating-point weights"
            )
    parameters = (("parameter", name, p) for name, p in model.named_parameters())
    buffers = (("buffer", name, b) for name, b in model.named_buffers() if b.is_floating_point())
    for kind, name, tensor in itertools.chain(parameters, buffers):
        if _is_lost(tensor.detach(), kind):
            bad = tensor.isnan() if kind == "buffer" else ~tensor.isfinite()
            raise NonFiniteError(
                f"{kind} {name!r} has {int(bad.sum())} NaN or infinite values out of {bad.numel()}",
                "load or train the weights again; a technique cannot repair them",
            )


def _is_lost(tensor: Tensor, kind: str) -> bool:
    """Whether any value is NaN, or, of a parameter, infinite: without a second tensor of that size."""
    if not tensor.numel():
        return False
    ends = torch.stack(torch.aminmax(tensor))  # NaN, if any is
    return bool(ends.isnan().any() if kind == "buffer" else not ends.isfinite().all())


def copy_finite(model: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy of a model whose weights are all finite; tied parameters stay tied. It has ``shared`` ones uncopied.

    Raises what ``check_finite`` does, and TechniqueError for a model that cannot be copied.
    """
    check_finite(model)
    check_copyable(model)
    try:
        return copied(model, shared)
    except Exception as error:  # an attribute may be anything, and raise anything
        raise TechniqueError(
            f"the {type(model).__name__} cannot be copied: {first_line(error)}",
            "see to it that copy.deepcopy(model) works: locks, open files and the like do not belong into attributes",
        ) from error


def sharing_parameters(model: nn.Module, *, buffers: bool = False) -> nn.Module:
    """A deep copy whose parameters (and buffers) are those of the model, until others are set in their place."""
    shared: Iterable[Tensor] = itertools.chain(model.parameters(), model.buffers() if buffers else ())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def replace_modules(model: nn.Module, replace: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Put ``replace(module)`` in the place of each submodule, the root included.

    A module that stands in two places is replaced by one and the same new module in both; attributes count, too, and
    the lists and dicts in them. Where ``replace`` returns another module, its children are not visited.
    """
    done: dict[nn.Module, nn.Module] = {}  # keyed by the module, not its id: keeps the old one alive

    def visit(module: nn.Module) -> nn.Module:
        if module not in done:
            done[module] = replace(module)
            if done[module] is module:
                for name, child in own_modules(module).items():  # not named_children(): it skips repeated modules
                    if child is not None:
                        own_modules(module)[name] = visit(child)
        return done[module]

    replaced = visit(model)
    put_in_place(replaced, done)
    return replaced


@dataclass(frozen=True)
class Weights:
    """The weights of a linear layer, however it stores them: weight (O, I), bias (O,) or None."""

    weight: Tensor
    bias: nn.Parameter | None


def is_linear(module: nn.Module) -> bool:
    """``nn.Linear`` itself or Hugging Face's ``Conv1D``; a subclass may compute something else."""
    return (type(module) is nn.Linear or is_conv1d(module)) and owns_weight(module)


def owns_weight(module: nn.Module) -> bool:
    """Whether the weight is a parameter of the layer, and not computed by a parametrization."""
    return own_parameters(module).get("weight") is not None


def is_conv1d(module: nn.Module) -> bool:
    """Hugging Face's ``Conv1D``: a linear layer that stores its weight as (I, O)."""
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")


def linear_weights(module: Any) -> Weights:
    return Weights(module.weight.t() if is_conv1d(module) else module.weight, module.bias)


def main_output(output: Any) -> Tensor:
    """The tensor that a model is about: itself, ``logits``, ``last_hidden_state``, or the first one found.

    Where none stands at the top, the only one of real numbers further down. Raises OutputError where there is none.
    """
    if isinstance(output, Tensor):
        return output
    items = items_of(output)
    tensors = {key: value for key, value in items.items() if isinstance(value, Tensor)}
    nested = [] if tensors else [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]
    if not tensors and len(nested) != 1:
        holds = f"{len(nested)} tensors that could be meant" if nested else "no tensor"
        raise OutputError(
            f"the output, a {type(output).__name__}, holds {holds}", "return a tensor, or a dict of them with 'logits'"
        )
    preferred = (tensors[key] for key in ("logits", "last_hidden_state") if key in tensors)
    return next(preferred, next(iter((*tensors.values(), *nested))))


def items_of(output: Any) -> dict[Any, Any]:
    """What a container holds, by name or by number."""
    if isinstance(output, Mapping):
        return dict(output)
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name, None) for field in fields(output)}
    return dict(enumerate(output)) if isinstance(output, list | tuple) else {}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    else:
        for item in items_of(value).values():
            yield from tensors_in(item)

"""One call of a model, followed operator by operator: which indices of its parameters can only be cut together.

Operators are followed as they are dispatched, with real numbers, so that what a model decides by its data or its
sizes is decided; torch.export would refuse such a model, and take seconds for each. What no rule knows is taken
apart into smaller operators, if it is made of some, or else cuts nothing that it touches.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import PlainDispatchMode, decomposed, writes_to_arguments
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import tensors_in
from perfsuite.techniques.pruning.coupling.labels import Algebra, Weight, frozen, varying

Value = Tensor | Weight  # labels of an activation, or of a parameter and what is like one
Result = Value | list["Value | None"] | None


@dataclass(frozen=True)
class Call:
    """One operator that was dispatched. ``owner``: the path of the module whose forward did it."""

    name: str
    overload: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    owner: str

    def argument(self, place: int, *names: str) -> Any:
        """An argument by its place or one of its names; None where it was left out."""
        if place < len(self.args):
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), None)

    @property
    def tensors(self) -> list[Tensor]:
        return list(tensors_in((self.args, self.kwargs)))


@dataclass(frozen=True)
class Count:
    """A number in the code of ``owner`` that counts what these labels (n,) are of; ``name``: where it is known."""

    owner: str
    labels: Tensor
    name: str = ""


Rule = Callable[["Trace", Call], Result]


class Trace(PlainDispatchMode):
    """What was found about the calls that ran while this was active."""

    def __init__(self, model: nn.Module, rules: dict[str, Rule], fallback: Rule) -> None:
        super().__init__()
        self.algebra = Algebra()
        self.counts: list[Count] = []
        self.made: list[Tensor] = []  # tensors of equal numbers that the code made
        self._sized: list[tuple[str, Tensor, Collection[int]]] = []
        self._rules, self._fallback = rules, fallback
        self._values: dict[int, tuple[weakref.ref[Tensor], Value]] = {}
        self._owners: list[str] = []
        self.called: set[str] = set()
        named = (*model.named_parameters(), *model.named_buffers())
        self._weights = {id(tensor): tensor for _, tensor in named if tensor.is_floating_point()}
        for name, module in model.named_modules():
            module.register_forward_pre_hook(partial(self._enter, name))
            module.register_forward_hook(self._leave)

    def run(self, model: nn.Module, inputs: Inputs) -> None:
        """Call the model; what it gives back is read by somebody else, and is not cut."""
        self._owners.clear()
        with torch.inference_mode(), self:
            output = model(*inputs.args, **inputs.kwargs)
        for tensor in tensors_in(output):
            self.freeze(tensor)

    def _enter(self, name: str, module: nn.Module, args: Any) -> None:
        self._owners.append(name)
        self.called.add(name)

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self._owners.pop()

    def value(self, tensor: Any) -> Value | None:
        """What is known of a tensor; None if it has no units."""
        if id(tensor) in self._weights:
            return self.algebra.weight(tensor)
        reference, value = self._values.get(id(tensor), (None, None))
        return value if reference is not None and reference() is tensor else None

    def labels(self, tensor: Tensor, units: Collection[int] = ()) -> Tensor:
        """The labels of an activation, or of a parameter along the first of these dimensions; its others are frozen."""
        value = self.value(tensor)
        if isinstance(value, Weight):
            return self.algebra.chosen(value, tensor.dim(), units)
        return self.algebra.reduced(value) if isinstance(value, Tensor) else frozen(tensor.dim())

    def freeze(self, tensor: Tensor) -> None:
        value = self.value(tensor)
        for labels in value.factors if isinstance(value, Weight) else (value,):
            if isinstance(labels, Tensor):
                self.algebra.atoms.freeze(labels)

    def sized(self, owner: str, labels: Tensor, dims: Collection[int]) -> None:
        """Remember that numbers in the code say how large these dimensions are, of what has these labels."""
        if any(d in dims for d in varying(labels)):
            self._sized.append((owner, labels, dims))

    def all_counts(self) -> Iterator[Count]:
        """Every number that counts units, now that all is known of them."""
        yield from self.counts
        for owner, labels, dims in self._sized:
            labels = self.algebra.reduced(labels)
            for d in varying(labels):
                if d in dims:
                    others = [slice(None) if i == d else 0 for i in range(labels.dim())]
                    yield Count(owner, labels[tuple(others)])

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        rule = self._rules.get(name.rstrip("_")) or self._pointwise(function)
        if rule is None and any(self.value(t) is not None for t in tensors_in((args, kwargs))):
            with self:
                made_of = decomposed(function, args, kwargs)
            if made_of is not NotImplemented:
                return made_of
        out = function(*args, **kwargs)
        owner = self._owners[-1] if self._owners else ""
        call = Call(name.rstrip("_"), str(function).rpartition(".")[2], function, args, kwargs, out, owner)
        self._set(out, self._result(rule or self._fallback, call, function))
        return out

    def _pointwise(self, function: Any) -> Rule | None:
        return self._rules["pointwise"] if torch.Tag.pointwise in function.tags else None

    def _result(self, rule: Rule, call: Call, function: Any) -> Result:
        into = call.args[0] if call.args and writes_to_arguments(function) else None
        if not isinstance(into, Tensor) or into.untyped_storage().nbytes() == into.nbytes:
            return self._fitting(rule, call)
        before = self.labels(into)  # a part of a larger tensor, which does not see what is written here
        result = self._fitting(rule, call)
        same = isinstance(result, Tensor) and torch.equal(self.algebra.reduced(result), self.algebra.reduced(before))
        return result if same else self._fallback(self, call)

    def _fitting(self, rule: Rule, call: Call) -> Result:
        """What a rule says, if it fits what the operator gave: rules do not know all ways to call all operators."""
        try:
            result = rule(self, call)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return self._fallback(self, call)
        outs = call.out if isinstance(call.out, tuple | list) else [call.out]
        values = result if isinstance(result, list) else [result] * len(outs)
        fits = len(values) == len(outs) and all(map(_fits, outs, values))
        return result if fits else self._fallback(self, call)

    def _set(self, out: Any, result: Result) -> None:
        outs = out if isinstance(out, tuple | list) else [out]
        values = result if isinstance(result, list) else [result] * len(outs)
        for tensor, value in zip(outs, values, strict=True):
            if isinstance(tensor, Tensor):
                if value is None:
                    self._values.pop(id(tensor), None)
                else:
                    self._values[id(tensor)] = (weakref.ref(tensor), value)


def _fits(tensor: Any, value: Any) -> bool:
    if not isinstance(tensor, Tensor):
        return True
    return all(
        labels.dim() == tensor.dim() and all(n in (1, size) for n, size in zip(labels.shape, tensor.shape, strict=True))
        for labels in (value.factors if isinstance(value, Weight) else (value,))
        if isinstance(labels, Tensor)
    )

"""What one call asks of torch: operators, FLOPs, and the peak bytes of live tensors.

All of it is seen at dispatch, so it is exact: the same code gives the same numbers, on any machine
where torch dispatches the same operators. Memory inside an operator's own kernel is not seen.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, mm_flop

from perfsuite._compat.torch import StorageWeakRef, TorchDispatchMode, tree_leaves
from perfsuite._compat.torch_distributed import are_shards, local
from perfsuite.measure.compiled import not_compiled
from perfsuite.measure.dataflow import Dataflow
from perfsuite.measure.repeatable import prepared

# Products that the counter of torch does not know, by name: not every torch has each of them.
_MORE_FLOPS: dict[str, Callable[..., int]] = {
    "aten::_int_mm": lambda a, b: mm_flop(a.shape, b.shape),
    "onednn::qlinear_pointwise": lambda x, scale, zero, packed, *rest: mm_flop(x.shape, packed.shape),
}
_MATMUL_WORDS = (
    "mm",
    "linear",
    "conv",
    "attention",
    "matmul",
    "cdist",
    "::mv",
    "::dot",
    "encoder_layer",
    "lstm",
    "gru",
)


@dataclass(frozen=True)
class Trace:
    """``uncounted`` names operators that look like products but have no FLOP formula.

    Two calls that ask for the same are equal. Beside that: how many operators ``computing`` were, whether the result
    ``follows`` from the inputs, and the ``strangers``, tensors that operators were given and none had made.
    """

    operators: dict[str, int]
    flops: int
    peak_bytes: int
    uncounted: tuple[str, ...] = ()
    computing: int = field(default=0, compare=False)
    follows: bool = field(default=True, compare=False)
    strangers: tuple[Tensor, ...] = field(default=(), compare=False, repr=False)

    @property
    def calls(self) -> int:
        return sum(self.operators.values())


def trace(call: Callable[[], object], held: Iterable[Tensor] = (), given: Iterable[Tensor] = ()) -> Trace:
    """Run the call once, eager, and record it, without what is made for it.

    ``held`` are tensors that are alive all along (the weights), ``given`` those that the call is made with.
    """
    held = tuple(held)
    with observed():
        recorder = _Recorder(held, Dataflow(given, held))
        with prepared(call) as ready, recorder:
            output = ready()
        return recorder.result(output)


def operators_of(call: Callable[[], object]) -> dict[str, int]:
    """How often one call dispatches each operator, and nothing else of it: a hundredth of the time of a trace."""
    with not_compiled(), prepared(call) as ready, _Names() as names:
        ready()
    return dict(sorted(names.counts.items()))


def operator_name(func: Any) -> str:
    """As people write it: ``aten::mm``."""
    return str(func.overloadpacket).replace(".", "::")


def flops_of(func: Any, args: Any, kwargs: Any, out: Any) -> int | None:
    """Of one operator, by its formula; None where there is none."""
    formula: Any = flop_registry.get(func.overloadpacket)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=out))
    more = _MORE_FLOPS.get(operator_name(func))
    return None if more is None else more(*args)


@contextmanager
def observed() -> Iterator[None]:
    """Nothing is compiled, and no collection in the middle frees tensors at a random moment."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with not_compiled():
            yield
    finally:
        if was_enabled:
            gc.enable()


def difference(one: Trace, other: Trace) -> str:
    """What two traces disagree on, first of all the operators; empty if they are equal."""
    for name in sorted({*one.operators, *other.operators}):
        counts = one.operators.get(name, 0), other.operators.get(name, 0)
        if counts[0] != counts[1]:
            return f"one call asks for {name} {counts[0]} times, the next {counts[1]} times"
    for what, before, after in (
        ("FLOPs", one.flops, other.flops),
        ("bytes at its peak", one.peak_bytes, other.peak_bytes),
    ):
        if before != after:
            return f"one call has {before:,} {what}, the next {after:,}"
    return ""


class _Names(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if are_shards(types):
            return NotImplemented  # as below
        self.counts[operator_name(func)] += 1
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Sees each operator as it is dispatched."""

    def __init__(self, held: Iterable[Tensor], flow: Dataflow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._flow = flow
        self._operators: Counter[str] = Counter()
        self._uncounted: set[str] = set()
        self._flops = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._opaque: dict[int, Tensor] = {}
        self._peak = 0
        for tensor in held:
            self._see(tensor)
        self._note_peak()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if are_shards(types):
            return NotImplemented  # what they do in this process is seen, operator by operator
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        for leaf in given:
            self._see(leaf)
        out = func(*args, **kwargs)
        name = operator_name(func)
        self._operators[name] += 1
        self._count_flops(func, name, args, kwargs, out)
        made = tree_leaves(out)
        for leaf in made:
            self._see(leaf)
        self._flow.note(func, given, made)
        self._note_peak()
        return out

    def result(self, output: object) -> Trace:
        ordered, flow = dict(sorted(self._operators.items())), self._flow
        return Trace(
            ordered, self._flops, self._peak, tuple(sorted(self._uncounted)),
            flow.computing, flow.reaches(output), tuple(flow.strangers),
        )  # fmt: skip

    def _count_flops(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        flops = flops_of(func, args, kwargs, out)
        self._flops += flops or 0
        if flops is None and any(word in name for word in _MATMUL_WORDS):
            self._uncounted.add(name)

    def _see(self, leaf: object) -> None:
        if not isinstance(leaf, Tensor) or leaf.device.type == "meta":
            return
        if leaf.is_mkldnn:  # opaque: a packed weight, which has no storage to ask
            self._opaque[id(leaf)] = leaf
        elif leaf.layout is torch.strided:
            storage = local(leaf).untyped_storage()
            reference = StorageWeakRef(storage)
            self._live.setdefault(reference.cdata, (reference, storage.nbytes()))

    def _note_peak(self) -> None:
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        opaque = sum(tensor.numel() * tensor.element_size() for tensor in self._opaque.values())
        self._peak = max(self._peak, opaque + sum(size for _, size in self._live.values()))

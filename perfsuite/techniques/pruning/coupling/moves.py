"""Rules for what moves elements without computing: the operator itself moves their labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perfsuite.techniques.pruning.coupling.labels import Operand, Weight, varying
from perfsuite.techniques.pruning.coupling.layers import frozen_all
from perfsuite.techniques.pruning.coupling.trace import Call, Count, Result, Rule, Trace

_MOVES = (
    "view", "reshape", "_unsafe_view", "unflatten", "flatten", "permute", "transpose", "swapaxes", "swapdims",
    "movedim", "moveaxis", "t", "numpy_T", "mT", "select", "unbind", "squeeze", "unsqueeze", "expand", "repeat",
    "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "tile", "broadcast_to",
    "split_with_sizes", "unfold",
)  # fmt: skip


def move(trace: Trace, call: Call) -> Result:
    x = call.args[0]
    value = trace.value(x)
    if isinstance(value, Weight):
        factors = [_moved(trace, call, factor) for factor in value.factors]
        if isinstance(call.out, tuple | list):
            return [Weight(_varying(parts)) for parts in zip(*factors, strict=True)] if factors else None
        return Weight(_varying(parts[0] for parts in factors))
    if not isinstance(value, Tensor):
        return None
    moved = _moved(trace, call, value)
    _remember_sizes(trace, call, moved)
    return [*moved] if isinstance(call.out, tuple | list) else moved[0]


def _varying(factors: Any) -> tuple[Tensor, ...]:
    return tuple(factor for factor in factors if varying(factor))


def _moved(trace: Trace, call: Call, labels: Tensor) -> list[Tensor]:
    """Labels of what comes out, one for each tensor."""
    full = trace.algebra.reduced(labels).expand(call.args[0].shape)
    if call.name in ("view", "_unsafe_view"):
        out: Any = full.reshape(call.args[1])
    else:
        out = call.function(full, *call.args[1:], **call.kwargs)
    return [trace.algebra.reduced(part) for part in (out if isinstance(out, tuple | list) else [out])]


def _remember_sizes(trace: Trace, call: Call, moved: list[Tensor]) -> None:
    dims = _written(call)
    for labels in moved if dims else ():
        trace.sized(call.owner, labels, dims)


def _written(call: Call) -> set[int]:
    """The dimensions of what comes out whose sizes are arguments: numbers of the code, not -1."""
    if call.name in ("view", "reshape", "_unsafe_view", "expand", "broadcast_to"):
        return {d for d, size in enumerate(call.args[1]) if size != -1}
    if call.name == "unflatten":
        first = call.args[1] % call.args[0].dim()
        return {first + d for d, size in enumerate(call.args[2]) if size != -1}
    if call.name in ("split", "unsafe_split", "split_with_sizes"):
        return {(call.argument(2, "dim") or 0) % call.args[0].dim()}
    return set()


def equal_parts(trace: Trace, call: Call) -> Result:
    """chunk, and split into parts of one size: they can only be cut alike."""
    result = move(trace, call)
    if isinstance(trace.value(call.args[0]), Tensor) and isinstance(result, list):
        shapes = {tuple(part.shape) for part in call.out}
        for part in result[1:] if len(shapes) == 1 else ():
            assert isinstance(part, Tensor)
            assert isinstance(result[0], Tensor)
            trace.algebra.atoms.unite(part, result[0])
    return result


def cut_out(trace: Trace, call: Call) -> Result:
    """Slice and narrow: what lies before the part is counted by its start, and what it ends with by its end."""
    x, dim = call.args[0], call.argument(1, "dim") or 0
    value = trace.value(x)
    if isinstance(value, Tensor):
        labels = trace.algebra.reduced(value)
        dim %= x.dim()
        start, end = call.argument(2, "start") or 0, call.argument(3, "end")
        for place in (start, end):
            if labels.shape[dim] > 1 and place is not None and 0 < place < x.shape[dim] and call.name == "slice":
                others = [slice(0, place) if d == dim else 0 for d in range(x.dim())]
                trace.counts.append(Count(call.owner, labels[tuple(others)]))
    return move(trace, call)


def reordered(trace: Trace, call: Call) -> Result:
    """roll, flip, index_select and indexing: places in the code stay what they are, so nothing is cut along those."""
    x = call.args[0]
    if any(trace.value(t) is not None for t in call.tensors if t is not x):
        return frozen_all(trace, call)
    dims = _indexed(call)
    value = trace.value(x)
    if isinstance(value, Weight):
        for factor in value.factors:
            if dims & set(varying(factor)):
                trace.algebra.atoms.freeze(factor)
    elif isinstance(value, Tensor):
        trace.algebra.couple_along(trace.algebra.reduced(value), sorted(dims))
    return move(trace, call)


def _indexed(call: Call) -> set[int]:
    dims = call.args[0].dim()
    if call.name == "index":
        return {d for d, index in enumerate(call.args[1]) if index is not None}
    named = call.argument(2 if call.name == "roll" else 1, "dims", "dim")
    listed = named if isinstance(named, tuple | list) else [named]
    return {d % dims for d in listed if d is not None} or set(range(dims))


def gathered(trace: Trace, call: Call) -> Result:
    """Elements by index along one dimension, which is not cut."""
    x, dim, index = call.args[:3]
    if trace.value(index) is not None or isinstance(trace.value(x), Weight):
        return frozen_all(trace, call)
    return trace.algebra.couple_along(trace.labels(x), [dim % x.dim()])


def concatenated(trace: Trace, call: Call) -> Result:
    """cat: units of all parts, one behind the other; along other dimensions the parts can only be cut alike."""
    parts, dim = call.args[0], call.argument(1, "dim") or 0
    dim %= call.out.dim()
    parts = [part for part in parts if part.dim() == call.out.dim()]
    labels = _aligned(trace, parts, call)
    for one in labels:
        if 1 == one.shape[dim] == labels[0].shape[dim]:
            trace.algebra.atoms.unite(one, labels[0])
    full = [trace.algebra.reduced(one).expand(part.shape) for one, part in zip(labels, parts, strict=True)]
    return trace.algebra.reduced(torch.cat(full, dim))


def stacked(trace: Trace, call: Call) -> Result:
    parts, dim = call.args[0], call.argument(1, "dim") or 0
    labels = trace.algebra.combine(
        [Operand(one, tuple(part.shape)) for one, part in zip(_aligned(trace, parts, call), parts, strict=True)]
    )
    return labels.unsqueeze(dim)


def _aligned(trace: Trace, parts: Any, call: Call) -> list[Tensor]:
    """The labels of each part; of a parameter those along the dimension that the others have units in."""
    known = [trace.value(part) for part in parts]
    dims = {d for value in known if isinstance(value, Tensor) for d in varying(trace.algebra.reduced(value))}
    return [trace.labels(part, dims) for part in parts]


def padded(trace: Trace, call: Call) -> Result:
    """pad: along dimensions without units; what is added beside units is of none."""
    x, widths = call.args[0], call.args[1]
    touched = [x.dim() - 1 - place // 2 for place, width in enumerate(widths) if width]
    labels = trace.labels(x)
    if not any(labels.shape[d] > 1 for d in touched):
        return labels
    return trace.algebra.reduced(torch.nn.functional.pad(labels.expand(x.shape), widths))


def made(trace: Trace, call: Call) -> Result:
    """Zeros, ones, full: numbers in the code say how large they are, and so they can be cut."""
    trace.made.append(call.out)  # kept, so that no other tensor comes to have its identity
    weight = trace.algebra.weight(call.out)
    trace.counts += [Count(call.owner, factor.reshape(-1)) for factor in weight.factors]
    return weight


def as_other(trace: Trace, call: Call) -> Result:
    """expand_as, view_as: to the shape of another tensor."""
    labels = trace.labels(call.args[0])
    if call.name == "expand_as":
        return labels.reshape([1] * (call.out.dim() - labels.dim()) + list(labels.shape))
    return trace.algebra.reduced(labels.expand(call.args[0].shape).reshape(call.out.shape))


RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVES, move),
    **dict.fromkeys(("chunk", "split", "tensor_split", "unsafe_split", "unsafe_chunk"), equal_parts),
    **dict.fromkeys(("slice", "narrow"), cut_out),
    **dict.fromkeys(("roll", "flip", "index_select", "index"), reordered),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
    **dict.fromkeys(("pad", "constant_pad_nd"), padded),
    **dict.fromkeys(("expand_as", "view_as", "reshape_as"), as_other),
    **dict.fromkeys(
        ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"), made
    ),
    "stack": stacked,
    "gather": gathered,
}

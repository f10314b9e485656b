"""Rules for what computes: element by element, over whole dimensions, or by products of two tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from perfsuite.techniques.pruning.coupling.labels import Operand, Weight, varying
from perfsuite.techniques.pruning.coupling.layers import axis_of, dense, frozen_all
from perfsuite.techniques.pruning.coupling.trace import Call, Result, Rule, Trace

_POINTWISE = (
    "pointwise", "dropout", "feature_dropout", "alpha_dropout", "native_dropout", "to", "_to_copy", "type_as", "copy",
    "hardswish", "where", "masked_fill", "rsub", "log_sigmoid", "contiguous", "clone", "detach", "alias", "lift_fresh",
    "float", "double", "half", "bfloat16", "true_divide", "divide", "multiply", "subtract", "clamp", "clip", "softplus",
)  # fmt: skip
_OVER_DIMS = (
    "mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "logsumexp", "prod", "norm",
    "softmax", "log_softmax", "_softmax", "cumsum", "cumprod", "argmax", "argmin", "any", "all", "sort", "topk",
)  # fmt: skip
_POOLS = (
    "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "upsample_nearest", "_upsample_nearest_exact",
    "lp_pool",
)  # fmt: skip


def pointwise(trace: Trace, call: Call) -> Result:
    tensors = [t for t in call.tensors if t.dim()]
    if not tensors:
        return None
    if len(tensors) == 1:
        return trace.value(tensors[0])
    return together(trace, tensors)


def together(trace: Trace, tensors: Sequence[Tensor]) -> Tensor | Weight:
    """What several tensors give element by element. Parameters follow the units of activations that they meet."""
    known = [trace.value(t) for t in tensors]
    if not any(isinstance(value, Tensor) for value in known):
        shapes = [tuple(t.shape) for t in tensors]
        return trace.algebra.outer(
            [(value if isinstance(value, Weight) else None, shape) for value, shape in zip(known, shapes, strict=True)]
        )
    dims = max(t.dim() for t in tensors)
    places = [
        d + dims - t.dim()
        for t, value in zip(tensors, known, strict=True)
        if isinstance(value, Tensor)
        for d in varying(trace.algebra.reduced(value))
    ]
    first = min(places, default=-1)  # of units along several dimensions, as heads, that of the heads
    operands = [Operand(trace.labels(t, [first - dims + t.dim()]), tuple(t.shape)) for t in tensors]
    return trace.algebra.combine(operands)


def over_dims(trace: Trace, call: Call) -> Result:
    """Reductions, softmax and the like: what they go over stays together."""
    x, outs = call.args[0], call.out if isinstance(call.out, tuple | list) else [call.out]
    named = call.argument(2 if call.name in ("norm", "linalg_vector_norm") else 1, "dim")
    if isinstance(named, bool | Tensor | float):
        return frozen_all(trace, call)
    dims = [named] if isinstance(named, int) else list(named or range(x.dim()))
    dims = [d % x.dim() for d in dims]
    labels = trace.algebra.couple_along(trace.labels(x), dims)
    if outs[0].dim() != x.dim():
        labels = labels[tuple(0 if d in dims else slice(None) for d in range(x.dim()))]
    return labels


def topped(trace: Trace, call: Call) -> Result:
    """Sort and topk, whose dimension stands elsewhere: nothing is known."""
    return frozen_all(trace, call)


def pooled(trace: Trace, call: Call) -> Result:
    """Pooling and interpolation: over the last dimensions, of which the name says how many."""
    x = call.args[0]
    number = re.search(r"([123])d", call.name)
    if number is None:
        return frozen_all(trace, call)
    spatial = int(number[1])
    return trace.algebra.couple_along(trace.labels(x), range(x.dim() - spatial, x.dim()))


def gated(trace: Trace, call: Call) -> Result:
    """glu: one half of the units is multiplied with the other."""
    x, dim = call.args[0], call.argument(1, "dim")
    dim = (-1 if dim is None else dim) % x.dim()
    value, gate = trace.labels(x).expand(x.shape).chunk(2, dim)
    trace.algebra.atoms.unite(value, gate)
    return trace.algebra.reduced(value)


def product(trace: Trace, call: Call) -> Result:
    """matmul, mm, bmm: with a weight it is a layer, else what is summed over stays together."""
    a, b = call.args[0], call.args[1]
    if a.dim() < 2 or b.dim() < 2:
        return frozen_all(trace, call)
    if isinstance(trace.value(b), Weight) and not isinstance(trace.value(a), Weight):
        _freeze_batch(trace, b)
        return dense(trace, a, -1, axis_of(trace, b, b.dim() - 2), axis_of(trace, b, b.dim() - 1))
    if isinstance(trace.value(a), Weight) and not isinstance(trace.value(b), Weight):
        _freeze_batch(trace, a)
        return dense(trace, b, -2, axis_of(trace, a, a.dim() - 1), axis_of(trace, a, a.dim() - 2))
    return contracted(trace, Operand(trace.labels(a), tuple(a.shape)), Operand(trace.labels(b), tuple(b.shape)))


def _freeze_batch(trace: Trace, weight: Tensor) -> None:
    value = trace.value(weight)
    assert isinstance(value, Weight)
    for factor in value.factors:
        if any(d < weight.dim() - 2 for d in varying(factor)):
            trace.algebra.atoms.freeze(factor)


def contracted(trace: Trace, a: Operand, b: Operand) -> Tensor:
    """Labels of a (..., I, K) times b (..., K, J): units of neither are cut along K."""
    left = trace.algebra.couple_along(a.labels, [a.labels.dim() - 1])[..., :1]
    right = trace.algebra.couple_along(b.labels, [b.labels.dim() - 2])[..., :1, :]
    if bool(left.any()) and bool(right.any()):
        trace.algebra.atoms.mark_heads(left)
    return trace.algebra.combine(
        [Operand(left, (*a.shape[:-1], 1)), Operand(right, (*b.shape[:-2], 1, b.shape[-1]))],
    )


def attention(trace: Trace, call: Call) -> Result:
    """scaled_dot_product_attention, as the two products and the softmax that it is."""
    query, key, value = (Operand(trace.labels(t), tuple(t.shape)) for t in call.args[:3])
    mask = call.argument(3, "attn_mask")
    turned = Operand(key.labels.transpose(-2, -1), (*key.shape[:-2], key.shape[-1], key.shape[-2]))
    if query.shape[:-2] != key.shape[:-2]:
        times = query.shape[-3] // key.shape[-3]
        turned, value = (_repeated(operand, times) for operand in (turned, value))
    scores = contracted(trace, query, turned)
    shape = (*query.shape[:-1], key.shape[-2])
    if isinstance(mask, Tensor):
        heads = min(varying(scores), default=-1) - len(shape) + mask.dim()
        masked = Operand(trace.labels(mask, [heads]), tuple(mask.shape))
        scores = trace.algebra.combine([Operand(scores, shape), masked])
    scores = trace.algebra.couple_along(scores, [scores.dim() - 1])
    return contracted(trace, Operand(scores, shape), value)


def _repeated(operand: Operand, times: int) -> Operand:
    labels = operand.labels.expand(*operand.labels.shape[:-3], operand.shape[-3], *operand.labels.shape[-2:])
    shape = (*operand.shape[:-3], operand.shape[-3] * times, *operand.shape[-2:])
    return Operand(labels.repeat_interleave(times, -3), shape)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, pointwise),
    **dict.fromkeys((*_OVER_DIMS, "linalg_vector_norm"), over_dims),
    **dict.fromkeys(("sort", "topk", "argsort"), topped),
    **{f"{name}{n}d": pooled for name in _POOLS for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": pooled for n in (1, 2, 3)},
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"), pooled),
    **dict.fromkeys(("matmul", "mm", "bmm"), product),
    "glu": gated,
    "scaled_dot_product_attention": attention,
}

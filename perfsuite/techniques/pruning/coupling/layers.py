"""Rules for what reads and makes units: layers with weights, norms, embeddings, recurrent layers."""

from __future__ import annotations

import torch
from torch import Tensor

from perfsuite.techniques.pruning.coupling.labels import Weight, frozen, varying
from perfsuite.techniques.pruning.coupling.trace import Call, Count, Result, Rule, Trace


def linear(trace: Trace, call: Call) -> Result:
    x, weight, bias = call.args[0], call.args[1], call.argument(2, "bias")
    if not isinstance(trace.value(weight), Weight):
        return frozen_all(trace, call)
    return dense(trace, x, -1, axis_of(trace, weight, 1), axis_of(trace, weight, 0), bias)


def addmm(trace: Trace, call: Call) -> Result:
    """A bias plus x @ weight, as Hugging Face's Conv1D has it."""
    bias, x, weight = call.args[:3]
    return dense(trace, x, -1, axis_of(trace, weight, 0), axis_of(trace, weight, 1), bias)


def dense(
    trace: Trace, x: Tensor, dim: int, columns: Tensor | None, rows: Tensor | None, bias: Tensor | None = None
) -> Tensor:
    """A weight over one dimension of x: it reads what varies along that, and makes units of its own there.

    Where units vary along another dimension, as heads do, they pass through a weight that all of them share.
    """
    algebra, dim = trace.algebra, dim % x.dim()
    labels = trace.labels(x, [dim])
    if any(d != dim for d in varying(labels)):
        labels = algebra.couple_along(labels, [dim])
    if varying(labels) and varying(labels) != [dim]:
        for part in (columns, rows):
            if part is not None:
                algebra.atoms.freeze(part)
        _follow(trace, bias, torch.zeros(1, dtype=torch.int64))
        return labels
    read(trace, labels.reshape(-1), columns)
    return make(trace, rows, bias, x.dim(), dim)


def read(trace: Trace, features: Tensor, columns: Tensor | None) -> None:
    """Columns (n,) read features (n,), or (1,) where these have no units."""
    if columns is not None:
        trace.algebra.play(columns, "reads")
        trace.algebra.atoms.unite(columns, features)


def make(trace: Trace, rows: Tensor | None, bias: Tensor | None, dims: int, dim: int) -> Tensor:
    """Rows (n,) of a weight make units along that dimension of an output."""
    if rows is None:
        return frozen(dims)
    trace.algebra.play(rows, "makes")
    _follow(trace, bias, rows)
    return trace.algebra.reduced(rows.reshape([-1 if d == dim % dims else 1 for d in range(dims)]))


def convolution(trace: Trace, call: Call) -> Result:
    x, weight, bias = call.args[0], call.args[1], call.argument(2, "bias")
    transposed, groups = call.name.startswith("conv_transpose"), call.argument(6, "groups") or 1
    channel = x.dim() - weight.dim() + 1
    inputs, outputs = (0, 1) if transposed else (1, 0)
    features = trace.algebra.vector(trace.labels(x), channel)
    if not isinstance(trace.value(weight), Weight):
        trace.algebra.atoms.freeze(features)
        return None
    if groups == 1:
        read(trace, features, axis_of(trace, weight, inputs))
        return make(trace, axis_of(trace, weight, outputs), bias, x.dim(), channel)
    return _grouped(trace, call, features, groups)


def _grouped(trace: Trace, call: Call, features: Tensor, groups: int) -> Result:
    """The unit is a group: what goes in, and what comes out. The other dimension of the weight stays as it is."""
    x, weight, bias = call.args[0], call.args[1], call.argument(2, "bias")
    channel = x.dim() - weight.dim() + 1
    first, other = axis_of(trace, weight, 0), axis_of(trace, weight, 1)
    if other is not None:
        trace.algebra.atoms.freeze(other)
    atoms = trace.algebra.atoms
    entering = features.expand(x.shape[channel]).reshape(groups, -1)
    leaving_size = call.out.shape[channel]
    if first is None:
        return frozen(x.dim())
    rows = first.reshape(groups, -1)
    atoms.unite(rows, rows[:, :1])
    atoms.unite(entering, rows[:, :1])
    trace.algebra.play(first, "follows")
    leaving = rows[:, :1].expand(groups, leaving_size // groups).reshape(-1)
    _follow(trace, bias, leaving)
    trace.counts += [
        Count(call.owner, rows[:, 0], "groups"),
        Count(call.owner, entering.reshape(-1), "in_channels"),
        Count(call.owner, leaving, "out_channels"),
    ]
    return trace.algebra.reduced(leaving.reshape([-1 if d == channel else 1 for d in range(x.dim())]))


def layer_norm(trace: Trace, call: Call) -> Result:
    """layer_norm and rms_norm: all that is normalised together stays together."""
    x, shape = call.args[0], call.args[1]
    for parameter in call.tensors[1:]:
        trace.freeze(parameter)
    return trace.algebra.couple_along(trace.labels(x), range(x.dim() - len(shape), x.dim()))


def batch_norm(trace: Trace, call: Call) -> Result:
    """batch_norm, instance_norm and prelu: some numbers for each channel.

    A batch norm of (B, steps, units) has them for each step, and units pass through one by one.
    """
    x = call.args[0]
    if x.dim() < 2:
        return frozen_all(trace, call)
    labels = trace.labels(x)
    if call.name == "batch_norm" and varying(labels) and 1 not in varying(labels):
        for parameter in call.tensors[1:]:
            trace.freeze(parameter)
        return labels
    channels = trace.algebra.vector(labels, 1)
    for parameter in call.tensors[1:]:
        if parameter.numel() > 1:
            _follow(trace, parameter, channels)
    return trace.algebra.reduced(channels.reshape([1, -1, *[1] * (x.dim() - 2)]))


def group_norm(trace: Trace, call: Call) -> Result:
    """The unit is a group of channels."""
    x, groups = call.args[0], call.args[1]
    channels = trace.algebra.vector(trace.labels(x), 1).expand(x.shape[1]).reshape(groups, -1)
    trace.algebra.atoms.unite(channels, channels[:, :1])
    trace.counts.append(Count(call.owner, channels[:, 0], "num_groups"))
    for parameter in call.tensors[1:]:
        _follow(trace, parameter, channels.reshape(-1))
    return trace.algebra.reduced(channels.reshape([1, -1, *[1] * (x.dim() - 2)]))


def embedding(trace: Trace, call: Call) -> Result:
    weight = call.args[0]
    if not isinstance(trace.value(weight), Weight):
        return frozen_all(trace, call)
    rows = axis_of(trace, weight, 0)
    if rows is not None:
        trace.algebra.atoms.freeze(rows)
    return make(trace, axis_of(trace, weight, 1), None, call.out.dim(), -1)


def recurrent(trace: Trace, call: Call) -> Result:
    """lstm, gru, rnn_tanh, rnn_relu: unit u is that of all layers and directions together."""
    x, states, weights = call.args[0], call.args[1], call.args[2]
    has_biases, layers, both_ways = call.args[3], call.args[4], call.args[7]
    directions = 2 if both_ways else 1
    each = len(weights) // (layers * directions)
    if call.overload != "input" or each != (4 if has_biases else 2):
        return frozen_all(trace, call)  # packed sequences, and outputs that are projected
    units = trace.algebra.atoms.axis(weights[1], 1).labels
    entering = trace.algebra.vector(trace.labels(x), -1)
    for place in range(layers * directions):
        from_below, from_itself, *biases = weights[place * each : (place + 1) * each]
        below = entering if place < directions else units.repeat(directions)
        for tensor, features in ((from_below, below), (from_itself, units)):
            columns = trace.algebra.atoms.axis(tensor, 1).labels
            trace.algebra.play(columns, "reads")
            trace.algebra.atoms.unite(columns, features)
        for tensor in (from_below, from_itself, *biases):
            gates = trace.algebra.atoms.axis(tensor, 0).labels
            trace.algebra.play(gates, "makes" if tensor.dim() > 1 else "follows")
            trace.algebra.atoms.unite(gates.reshape(-1, len(units)), units)
    for state in states if isinstance(states, list | tuple) else [states]:
        trace.algebra.atoms.unite(trace.algebra.vector(trace.labels(state, [state.dim() - 1]), -1), units)
    found = [units.repeat(directions), *[units] * (len(call.out) - 1)]
    return [
        trace.algebra.reduced(labels.reshape([*[1] * (out.dim() - 1), -1]))
        for labels, out in zip(found, call.out, strict=True)
    ]


def frozen_all(trace: Trace, call: Call) -> Result:
    """What is not known cuts nothing that it touches."""
    for tensor in call.tensors:
        trace.freeze(tensor)
    return None


def axis_of(trace: Trace, weight: Tensor, dim: int) -> Tensor | None:
    """Labels (n,) of a weight along one of its dimensions; None where it has but one index there."""
    value = trace.value(weight)
    factors = value.factors if isinstance(value, Weight) else ()
    found = [factor for factor in factors if varying(factor) == [dim]]
    for other in factors:
        if len(varying(other)) > 1:
            trace.algebra.atoms.freeze(other)
    return found[0].reshape(-1) if found else None


def _follow(trace: Trace, parameter: Tensor | None, labels: Tensor) -> None:
    """A parameter (n,) that has a number for each unit."""
    if parameter is None:
        return
    own = axis_of(trace, parameter, 0)
    if own is None or len(labels) not in (1, len(own)):
        trace.freeze(parameter)
        trace.algebra.atoms.freeze(labels)
    else:
        trace.algebra.play(own, "follows")
        trace.algebra.atoms.unite(own, labels)


RULES: dict[str, Rule] = {
    "linear": linear,
    "addmm": addmm,
    **{f"conv{n}d": convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": convolution for n in (1, 2, 3)},
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
    "batch_norm": batch_norm,
    "instance_norm": batch_norm,
    "prelu": batch_norm,
    "group_norm": group_norm,
    "embedding": embedding,
    "lstm": recurrent,
    "gru": recurrent,
    "rnn_tanh": recurrent,
    "rnn_relu": recurrent,
}

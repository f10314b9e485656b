"""How much each head, unit or channel matters."""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import Literal

import torch
from torch import Tensor, nn

from perfsuite.errors import NonFiniteError, TechniqueError
from perfsuite.techniques.calibrating import batches, in_eval_mode, loss_of
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.recorded import Digested


def importance_of(
    model: nn.Module, groups: list[Group], kind: Literal["magnitude", "taylor"], data: Digested
) -> dict[tuple[str, str], Tensor]:
    """Importance (U,) of the units of each group, or (L, U) of those of each lane, by its name and kind."""
    values = _magnitude(groups) if kind == "magnitude" else _taylor(model, groups, data)
    return {(group.name, group.kind): value for group, value in zip(groups, values, strict=True)}


def _magnitude(groups: list[Group]) -> list[Tensor]:
    """The norms of what computes a unit times the norm of what reads it: a bound on what it can contribute."""
    return [sum(map(_bound, group.members), start=torch.zeros(())) for group in groups]


def _bound(group: Group) -> Tensor:
    return reduce(mul, (part.norms(part.values.detach().cpu()) for part in (*group.sources, group.sink)))


def _taylor(model: nn.Module, groups: list[Group], data: Digested) -> list[Tensor]:
    """The first-order effect on the loss of switching a unit off, its size added up over batches.

    With a gate g = 1 before the sink, dL/dg is the sum over the columns that read the unit of weight
    times gradient; so one backward pass gives it for all units.
    """
    totals = [torch.zeros_like(_bound(group), dtype=torch.float64) for group in groups]
    required = {p: p.requires_grad for p in model.parameters()}
    try:
        for p in required:
            p.requires_grad_(False)
        for group in groups:
            for member in group.members:
                member.sink.values.requires_grad_(True)
        with in_eval_mode(model), torch.enable_grad():
            for inputs in batches(model, data, "Taylor importance"):
                _add_effects(groups, totals, loss_of(model, inputs))
    finally:
        for p, was in required.items():
            p.requires_grad_(was)
            p.grad = None
    return totals


def _add_effects(groups: list[Group], totals: list[Tensor], loss: Tensor) -> None:
    if not loss.requires_grad:
        raise TechniqueError(
            "the loss does not depend on the weights: the forward switches gradients off",
            "remove torch.no_grad() from it, or use importance='magnitude'",
        )
    if not bool(loss.isfinite()):
        raise NonFiniteError(f"the loss on the calibration data is {float(loss)}", "check the data and the labels")
    sinks = [
        (group, total, member.sink) for group, total in zip(groups, totals, strict=True) for member in group.members
    ]
    weights = [sink.values for _, _, sink in sinks]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    for (group, total, sink), weight, gradient in zip(sinks, weights, gradients, strict=True):
        if gradient is not None:  # the batch may not reach a layer
            if not bool(gradient.isfinite().all()):
                raise NonFiniteError(f"a gradient of {group.name!r} is NaN or infinite", "check the data and the model")
            total += sink.per_unit((weight.detach() * gradient).cpu().double()).abs()

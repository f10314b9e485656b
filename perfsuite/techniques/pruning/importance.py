"""How much each head, unit or channel matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from perfsuite.errors import NonFiniteError, TechniqueError
from perfsuite.techniques.calibrating import batches, in_eval_mode, loss_of
from perfsuite.techniques.pruning.coupling.coupled import Coupled
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.recorded import Digested


def importance_of(
    model: nn.Module, groups: Sequence[Group | Coupled], kind: Literal["magnitude", "taylor"], data: Digested
) -> dict[tuple[str, str], Tensor]:
    """Importance (U,) of the units of each group, or (L, U) of those of each lane, by its name and kind."""
    values = [group.magnitude() for group in groups] if kind == "magnitude" else _taylor(model, groups, data)
    return {(group.name, group.kind): value for group, value in zip(groups, values, strict=True)}


def _taylor(model: nn.Module, groups: Sequence[Group | Coupled], data: Digested) -> list[Tensor]:
    """The first-order effect on the loss of switching a unit off, its size added up over batches.

    With a gate g = 1 before the sink, dL/dg is the sum over the columns that read the unit of weight
    times gradient; so one backward pass gives it for all units.
    """
    totals = [torch.zeros_like(group.magnitude(), dtype=torch.float64) for group in groups]
    required = {p: p.requires_grad for p in model.parameters()}
    try:
        for p in required:
            p.requires_grad_(False)
        for weight in (weight for group in groups for weight, _ in group.readers):
            weight.requires_grad_(True)
        with in_eval_mode(model), torch.enable_grad():
            for inputs in batches(model, data, "Taylor importance"):
                _add_effects(groups, totals, loss_of(model, inputs))
    finally:
        for p, was in required.items():
            p.requires_grad_(was)
            p.grad = None
    return totals


def _add_effects(groups: Sequence[Group | Coupled], totals: list[Tensor], loss: Tensor) -> None:
    if not loss.requires_grad:
        raise TechniqueError(
            "the loss does not depend on the weights: the forward switches gradients off",
            "remove torch.no_grad() from it, or use importance='magnitude'",
        )
    if not bool(loss.isfinite()):
        raise NonFiniteError(f"the loss on the calibration data is {float(loss)}", "check the data and the labels")
    weights = {id(weight): weight for group in groups for weight, _ in group.readers}
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    gradients = dict(zip(weights, found, strict=True))
    for group, total in zip(groups, totals, strict=True):
        total += _effect(group, gradients).abs()


def _effect(group: Group | Coupled, gradients: Mapping[int, Tensor | None]) -> Tensor:
    """The sums (U,), or (L, U) of lanes, of weight times gradient, over all that reads a unit."""
    effect = torch.zeros((), dtype=torch.float64)
    for weight, part in group.readers:
        gradient = gradients[id(weight)]
        if gradient is not None:  # the batch may not reach a layer
            if not bool(gradient.isfinite().all()):
                raise NonFiniteError(f"a gradient of {group.name!r} is NaN or infinite", "check the data and the model")
            effect = effect + part.per_unit((weight.detach() * gradient).cpu().double())
    return effect

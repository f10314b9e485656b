"""Gradients of several micro-batches, added up before one update: as those of the whole batch, in less memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch.nn.modules.batchnorm import _NormBase

from perfsuite._compat.torch import has_values
from perfsuite.errors import UsageError
from perfsuite.techniques.naming import Count, Grammar, Named
from perfsuite.training.batches import split
from perfsuite.training.losses import terms_of
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import loss_of

_ALIKE = 1e-3  # relative: float32's sums in another order differ by less, a mean of means by more


@dataclass(frozen=True)
class Accumulate(Named):
    """``accumulate-K``: the batch in K micro-batches, each weighed by the terms that its mean loss is over.

    Raises UsageError for layers that look at the whole batch (BatchNorm), and for a loss that is no mean over its
    terms.
    """

    micro_batches: int

    grammar = Grammar("accumulate", Count("micro_batches", example="4", is_needed=True), noun="recipe")

    def __post_init__(self) -> None:
        if self.micro_batches < 2:
            raise UsageError(f"a batch in {self.micro_batches} parts is none that is accumulated", "write accumulate-4")

    def apply(self, plan: StepPlan) -> StepPlan:
        whole = next((name for name, layer in plan.model.named_modules() if _looks_at_the_batch(layer)), None)
        if whole is not None:
            raise UsageError(
                f"{whole!r} normalizes over the batch, of which it sees parts under {self.name}: the model is another",
                "gate the recipe 'plain' for this model, or let it normalize with GroupNorm or LayerNorm",
            )
        changed = replace(plan, micro_batches=self.micro_batches, draws_alike=False)
        _check_mean(changed)
        return changed


def _looks_at_the_batch(layer: torch.nn.Module) -> bool:
    """BatchNorm of any dimension; InstanceNorm shares its base and looks at one example at a time."""
    return isinstance(layer, _NormBase) and "InstanceNorm" not in type(layer).__name__


def _check_mean(plan: StepPlan) -> None:
    """Raises UsageError where the weighed sum of the parts' losses is not the loss of the whole."""
    if not all(map(has_values, plan.model.parameters())):
        return
    mode = plan.model.training
    plan.model.eval()
    try:
        with torch.no_grad():
            parts = list(split(plan.example, plan.micro_batches))
            terms = [terms_of(plan.loss, part) for part in parts]
            found = [float(loss_of(plan.model, plan.loss, part)) for part in parts]
            whole = float(loss_of(plan.model, plan.loss, plan.example))
    finally:
        plan.model.train(mode)
    weighed = sum(loss * count for loss, count in zip(found, terms, strict=True) if count) / max(1, sum(terms))
    if math.isfinite(whole) and not math.isclose(weighed, whole, rel_tol=_ALIKE, abs_tol=_ALIKE * 1e-3):
        raise UsageError(
            f"the loss is no mean over its terms: {whole:.6g} on the whole batch, {weighed:.6g} from its "
            f"micro-batches, weighed by {terms} terms",
            "give the loss a method terms(batch) that counts what its mean is over (perfsuite.training.losses)",
        )

"""What a batch must allow so that the step on its parts is the step on the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from perfsuite._compat.torch import counts_batches
from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.training.losses import terms_of
from perfsuite.training.plan import StepPlan
from perfsuite.training.step import loss_of

_ALIKE = 1e-3  # relative: float32's sums in another order differ by less, a mean of means by more


def check_layers(model: nn.Module, recipe: str) -> None:
    """Raises UsageError for a layer that looks at the whole batch (BatchNorm)."""
    whole = next((name for name, layer in model.named_modules() if _looks_at_the_batch(layer)), None)
    if whole is not None:
        raise UsageError(
            f"{whole!r} normalizes over the batch, of which it sees parts under {recipe}: the model is another",
            "gate the recipe 'plain' for this model, or let it normalize with GroupNorm or LayerNorm",
        )


def check_mean(plan: StepPlan, parts: Sequence[Inputs]) -> None:
    """Raises UsageError where the weighed sum of the parts' losses is not the loss of the whole."""
    if not plan.has_values:
        return
    with in_eval_mode(plan.model), torch.no_grad():
        terms = [terms_of(plan.loss, part) for part in parts]
        found = [float(loss_of(plan.model, plan.loss, part)) for part in parts]
        whole = float(loss_of(plan.model, plan.loss, plan.example))
    weighed = sum(loss * count for loss, count in zip(found, terms, strict=True) if count) / max(1, sum(terms))
    if math.isfinite(whole) and not math.isclose(weighed, whole, rel_tol=_ALIKE, abs_tol=_ALIKE * 1e-3):
        raise UsageError(
            f"the loss is no mean over its terms: {whole:.6g} on the whole batch, {weighed:.6g} from its "
            f"parts, weighed by {terms} terms",
            "give the loss a method terms(batch) that counts what its mean is over (perfsuite.training.losses)",
        )


def _looks_at_the_batch(layer: nn.Module) -> bool:
    """BatchNorm of any dimension; InstanceNorm shares its base and looks at one example at a time."""
    return counts_batches(layer) and "InstanceNorm" not in type(layer).__name__

"""Training that has come to NaN or infinity is stopped where it did, and says where."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from perfsuite.errors import NonFiniteError
from perfsuite.training.step import first_lost


def check_gradients(loss: float, step: int, parameters: Mapping[str, nn.Parameter]) -> None:
    """Raises NonFiniteError, with the first parameter whose gradient is lost, before any weight is touched."""
    norm = torch.nn.utils.get_total_norm(p.grad for p in parameters.values() if p.grad is not None)
    if math.isfinite(loss) and bool(norm.isfinite()):
        return
    lost = first_lost(parameters.items())
    where = f", and {lost}" if lost else ""
    raise NonFiniteError(
        f"the loss is {loss:.6g} at step {step}{where}",
        "use a lower learning rate or a longer warmup, and look for examples that are not finite; "
        "the weights are those of the step before",
    )

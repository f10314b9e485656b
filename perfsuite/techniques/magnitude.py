"""Unstructured magnitude pruning with exact counts.

Indices are chosen, not a threshold: exactly ``round(sparsity * n)`` weights are zero afterwards,
also among equal magnitudes, where the earlier index goes first. That makes the masks nested: a
greater sparsity prunes a superset.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.techniques.common import copy_finite, weights_to_prune


def prune(model: nn.Module, sparsity: float, scope: str) -> nn.Module:
    """A copy of the model with its smallest linear and convolution weights set to zero.

    Raises TechniqueError if the model has no such weights, NonFiniteError if one is not finite.
    """
    pruned = copy_finite(model)
    weights = weights_to_prune(pruned)
    if not weights:
        raise TechniqueError(
            "magnitude pruning found no float weight of a linear or convolution layer",
            "prune before quantizing, and use a model that has such layers",
        )
    with torch.no_grad():
        if scope == "local":
            for weight in weights.values():
                weight.masked_fill_(smallest(weight.abs().flatten(), sparsity).view_as(weight), 0)
        else:
            magnitudes = torch.cat([weight.abs().flatten().double() for weight in weights.values()])
            parts = smallest(magnitudes, sparsity).split([weight.numel() for weight in weights.values()])
            for weight, part in zip(weights.values(), parts, strict=True):
                weight.masked_fill_(part.view_as(weight), 0)
    return pruned


def smallest(magnitudes: Tensor, sparsity: float) -> Tensor:
    """A bool mask over (n,) magnitudes that is True at exactly round(sparsity * n) of the smallest."""
    count = round(sparsity * magnitudes.numel())
    if count == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    threshold = magnitudes.kthvalue(count).values
    mask = magnitudes < threshold
    ties = (magnitudes == threshold).nonzero().flatten()
    mask[ties[: count - int(mask.sum())]] = True
    return mask

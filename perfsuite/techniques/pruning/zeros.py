"""Unstructured magnitude pruning with exact counts, and N:M patterns.

Indices are chosen, not a threshold: exactly ``round(sparsity * n)`` weights are zero afterwards,
also among equal magnitudes, where the earlier index goes first. That makes the masks nested: a
greater sparsity prunes a superset.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.errors import TechniqueError
from perfsuite.techniques.common import is_linear, linear_weights
from perfsuite.techniques.selection import selected

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
_PACKED = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")  # of MultiheadAttention


def prune(weights: Sequence[Tensor], sparsity: float, *, together: bool) -> None:
    """Set the smallest entries of each of the weights to zero, in place; ``together``: of all of them taken as one."""
    with torch.no_grad():
        if not together:
            for weight in weights:
                weight.masked_fill_(smallest(weight.abs().flatten(), sparsity).view_as(weight), 0)
        else:
            magnitudes = torch.cat([weight.abs().flatten().double() for weight in weights])
            parts = smallest(magnitudes, sparsity).split([weight.numel() for weight in weights])
            for weight, part in zip(weights, parts, strict=True):
                weight.masked_fill_(part.view_as(weight), 0)


def prune_pattern(model: nn.Module, names: Collection[str], keep: int, of: int) -> nn.Module:
    """Keep the ``keep`` largest of every ``of`` neighbouring inputs of each linear layer of those names, in place.

    Raises TechniqueError if none of the names is that of a linear layer.
    """
    layers = [module for name, module in model.named_modules() if name in names and is_linear(module)]
    if not layers:
        raise _nothing("an N:M pattern", "float linear layer")
    with torch.no_grad():
        for layer in layers:
            weight = linear_weights(layer).weight  # (O, I), a view
            weight.masked_fill_(beyond_pattern(weight.abs(), keep, of), 0)
    return model


def beyond_pattern(magnitudes: Tensor, keep: int, of: int) -> Tensor:
    """A bool mask over (O, I) that is True at all but the ``keep`` largest of every ``of`` neighbours in a row."""
    padded = F.pad(magnitudes, (0, -magnitudes.shape[1] % of), value=-1.0).unflatten(1, (-1, of))  # (O, G, of)
    order = padded.argsort(dim=-1, descending=True, stable=True)
    mask = torch.ones_like(padded, dtype=torch.bool).scatter_(-1, order[..., :keep], False)
    return mask.flatten(1)[:, : magnitudes.shape[1]]


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


def parameters_to_prune(
    model: nn.Module,
    parameters: Sequence[str] = ("weight",),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, nn.Parameter]:
    """The parameters to prune by name, a tied one once.

    Without ``include``: of linear, convolution and attention layers, but for tables of embeddings.
    Raises TechniqueError if there are none.
    """
    names = selected(model, include, exclude)
    found: dict[nn.Parameter, str] = {}  # by parameter: a tied one stands under several names, and is pruned once
    spared: set[nn.Parameter] = set()
    for name, module in model.named_modules():
        own = {kind: p for kind in _kinds(module, parameters) if (p := own_parameters(module).get(kind)) is not None}
        if name in names and (include or is_linear(module) or isinstance(module, _LAYERS)):
            found.update({p: f"{name}.{kind}" if name else kind for kind, p in own.items() if p not in found})
        elif not include and isinstance(module, nn.Embedding):
            spared.update(own.values())  # also where an output layer shares the table
    chosen = {name: p for p, name in found.items() if p not in spared}
    if not chosen:
        raise _nothing("magnitude pruning", f"float {' or '.join(parameters)} of a linear or convolution layer")
    return chosen


def _kinds(module: nn.Module, parameters: Sequence[str]) -> tuple[str, ...]:
    packed = isinstance(module, nn.MultiheadAttention) and "weight" in parameters
    return (*parameters, *(_PACKED if packed else ()))


def _nothing(what: str, kind: str) -> TechniqueError:
    return TechniqueError(
        f"{what} found no {kind}", "prune before quantizing, use a model that has such layers, and check the selection"
    )

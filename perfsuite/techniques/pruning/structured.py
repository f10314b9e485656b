"""Structured pruning: heads, units and channels removed, so that the tensors really get smaller.

Michel et al. 2019 (heads), Molchanov et al. 2019 (Taylor importance), Li et al. 2017 (filters).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from perfsuite.errors import StorageError, TechniqueError
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.pruning.groups import Group, check_divisible, find_groups
from perfsuite.techniques.pruning.importance import importance_of
from perfsuite.techniques.recorded import Digested, provenance
from perfsuite.techniques.selection import selected

if TYPE_CHECKING:
    from perfsuite.techniques.pruning.structured_pruning import Structured


def remove(model: nn.Module, technique: Structured, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
    """Remove the least important units, in place, and say how many each group kept, of how many at first.

    Fractions are of the *original* counts: where an earlier step removed some already, less goes.
    Raises TechniqueError if the model has nothing that can be removed.
    """
    model = split_attention(model)
    groups = _selected(model, technique)
    if not groups:
        raise TechniqueError(
            f"structured pruning found no heads, units or channels in the {type(model).__name__}",
            "it knows perfsuite's and torch's encoders, BERT and DistilBERT, and plain chains of linear and "
            "convolution layers",
        )
    for group in groups:
        check_divisible(group)
    originals = _original_counts(model, groups)
    importance = importance_of(model, groups, technique.importance, data)
    for kind in ("heads", "units"):
        mine = [group for group in groups if group.kind == kind]
        counts = _counts_to_keep(mine, importance, originals, technique)
        for group in mine:
            group.keep(_largest(importance[group.name, kind], counts[group.name]))
    sync_configs(model)
    kept: dict[str, dict[str, int]] = defaultdict(dict)
    of: dict[str, dict[str, int]] = defaultdict(dict)
    for group in groups:
        kept[group.kind][group.name] = group.count
        of[group.kind][group.name] = originals[group.name, group.kind]
    return model, {"kept": dict(kept), "of": dict(of)}


def shrink(model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """Give a fresh model the shape that was recorded, in place. Raises StorageError for no such record."""
    try:
        kept = msgspec.convert(structure.get("kept", {}), type=dict[str, dict[str, Annotated[int, msgspec.Meta(ge=1)]]])
    except msgspec.ValidationError as error:
        raise StorageError(f"the record of what was kept is broken: {error}", "save the model again") from error
    model = split_attention(model)
    for group in find_groups(model):
        count = kept.get(group.kind, {}).get(group.name)
        if count is not None and count < group.count:
            group.keep(torch.arange(count))
    sync_configs(model)
    return model


def _selected(model: nn.Module, technique: Structured) -> list[Group]:
    """Groups of which something is included, and nothing excluded: all their layers are cut."""
    included = selected(model, technique.include, ())
    allowed = selected(model, (), technique.exclude)
    names = {module: name for name, module in model.named_modules()}
    return [
        group
        for group in find_groups(model)
        if not {group.name, *(names[layer] for layer in group.layers)} - allowed
        and included & {group.name, *(names[layer] for layer in group.layers)}
    ]


def sync_configs(model: nn.Module) -> None:
    """Make configs agree with the shapes: of our encoders, and of a Hugging Face model."""
    for module in model.modules():
        sync: Any = getattr(module, "sync_config", None)
        if sync is not None:
            sync()
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_dict"):
        groups = find_groups(model)
        for kind, fields in (("heads", ("num_attention_heads",)), ("units", ("intermediate_size", "hidden_dim"))):
            _sync(config, fields, {group.count for group in groups if group.kind == kind})


def _sync(config: Any, fields: tuple[str, ...], counts: set[int]) -> None:
    """Set a number that all layers agree on. What the model was built with is kept: loading builds it again."""
    field = next((name for name in fields if hasattr(config, name)), None)
    if field is None or len(counts) != 1:
        return  # one number cannot say it; the provenance record does
    built = dict(getattr(config, "perfsuite_built", {}))
    built.setdefault(field, getattr(config, field))
    (count,) = counts
    if count != getattr(config, field):
        config.perfsuite_built = built
        setattr(config, field, count)


def _original_counts(model: nn.Module, groups: list[Group]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {(group.name, group.kind): group.count for group in groups}
    for step in reversed(provenance(model)):
        for kind, counts in step.structure.get("of", {}).items():
            found.update({(name, kind): count for name, count in counts.items() if (name, kind) in found})
    return found


def _counts_to_keep(
    groups: list[Group],
    importance: Mapping[tuple[str, str], Tensor],
    originals: Mapping[tuple[str, str], int],
    technique: Structured,
) -> dict[str, int]:
    """How many units each of the groups, all of one kind, keeps: at least one, and a multiple of ``round_to``."""
    if not groups:
        return {}
    kind = groups[0].kind
    fraction = technique.heads if kind == "heads" else technique.units
    wanted = {
        group.name: originals[group.name, kind] - round(fraction * originals[group.name, kind]) for group in groups
    }
    if technique.scope == "global":
        wanted = _ranked_together(groups, importance, sum(wanted.values()), technique)
    multiple = technique.round_to if kind == "units" else 1
    return {
        group.name: min(group.count, math.ceil(max(1, wanted[group.name]) / multiple) * multiple) for group in groups
    }


def _ranked_together(
    groups: list[Group], importance: Mapping[tuple[str, str], Tensor], total: int, technique: Structured
) -> dict[str, int]:
    """Each group keeps its best unit; the others compete for what is left of ``total``."""
    candidates: list[tuple[float, str]] = []
    for group in groups:
        values = importance[group.name, group.kind]
        if technique.importance == "magnitude":  # layers have scales of their own; Taylor is in units of the loss
            values = values / values.mean().clamp(min=torch.finfo(values.dtype).tiny)
        candidates += [(value, group.name) for value in values.sort(descending=True).values[1:].tolist()]
    kept = {group.name: 1 for group in groups}
    for _, name in sorted(candidates, key=lambda entry: -entry[0])[: max(0, total - len(groups))]:
        kept[name] += 1
    return kept


def _largest(importance: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` most important units, in ascending order; among equals the later ones go first."""
    order = importance.argsort(descending=True, stable=True)
    return order[:count].sort().values

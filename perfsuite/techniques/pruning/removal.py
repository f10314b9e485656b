"""Structured pruning: heads, units and channels removed, so that the tensors really get smaller.

Michel et al. 2019 (heads), Molchanov et al. 2019 (Taylor importance), Li et al. 2017 (filters).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from perfsuite.errors import StorageError, TechniqueError
from perfsuite.registry import architectures
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.pruning.configs import following, sync_configs
from perfsuite.techniques.pruning.coupling.coupled import Coupled
from perfsuite.techniques.pruning.coupling.find import Followed, follow, is_chained, is_described
from perfsuite.techniques.pruning.coupling.proof import names_of
from perfsuite.techniques.pruning.coupling.restore import record_in, restore
from perfsuite.techniques.pruning.coupling.units import Units, cut
from perfsuite.techniques.pruning.groups import Group, check_divisible, described, find_groups
from perfsuite.techniques.pruning.importance import importance_of
from perfsuite.techniques.recorded import Digested, provenance
from perfsuite.techniques.selection import selected

if TYPE_CHECKING:
    from perfsuite.techniques.pruning.structured import Structured


def remove(model: nn.Module, technique: Structured, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
    """Remove the least important units, in place, and say how many each group kept, of how many at first.

    Fractions are of the *original* counts: where an earlier step removed some already, less goes.
    Raises TechniqueError if the model has nothing that can be removed.
    """
    model = split_attention(model)
    known, followed = _found(model, data)
    coupled = [Coupled(model, units) for units in followed.groups] if followed is not None else []
    groups = _selected([*known, *coupled], model, technique)
    if not groups and not any("coupled" in step.structure for step in provenance(model)):
        raise _nothing_found(model, followed, has_data=bool(data))
    for group in groups:
        if isinstance(group, Group):
            check_divisible(group)
    originals = _original_counts(model, groups)
    fields = following(model, known, originals)
    importance = importance_of(model, groups, technique.importance, data)
    chosen = _chosen(groups, importance, originals, technique)
    for group, units in chosen:
        if isinstance(group, Group):
            group.keep(units)
    sync_configs(model, fields)
    structure: dict[str, Any] = {}
    if followed is not None:
        plan = [(group.units, units) for group, units in chosen if isinstance(group, Coupled)]
        structure["coupled"], left = _cut(model, followed, plan)
        chosen = [(group, units) for group, units in chosen if (group.kind, group.name) not in left]
    kept: dict[str, dict[str, int]] = defaultdict(dict)
    of: dict[str, dict[str, int]] = defaultdict(dict)
    for group, units in chosen:
        kept[group.kind][group.name] = units.shape[-1]
        of[group.kind][group.name] = originals[group.name, group.kind]
    return model, {"kept": dict(kept), "of": dict(of), **structure}


def _chosen(
    groups: Sequence[Group | Coupled],
    importance: Mapping[tuple[str, str], Tensor],
    originals: Mapping[tuple[str, str], int],
    technique: Structured,
) -> list[tuple[Group | Coupled, Tensor]]:
    """The units that each group keeps, heads first."""
    chosen = []
    for kind in ("heads", "units"):
        mine = [group for group in groups if group.kind == kind]
        counts = _counts_to_keep(mine, importance, originals, technique)
        chosen += [(group, largest(importance[group.name, kind], counts[group.name])) for group in mine]
    return chosen


def _found(model: nn.Module, data: Digested) -> tuple[list[Group], Followed | None]:
    """The groups that architectures describe, and what is found by following a call in all else.

    Chains of layers are for models that are nothing else, that cannot be called here, or that a call does not reach.
    """
    parts = described(model)
    known = find_groups(model)
    is_clear = not parts and is_chained(model, [group.layers for group in known])
    if is_described(model, parts) or (is_clear and not (data and _normalizes_units_or_steps(model))):
        return known, None
    followed = follow(model, data.first(), parts)
    if parts or followed is None:
        return known, followed
    called = {module for name, module in model.named_modules() if name in followed.called}
    return [group for group in known if not called & {*group.layers}], followed


def _normalizes_units_or_steps(model: nn.Module) -> bool:
    """Of (B, steps, units) a batch norm normalizes the steps, of (B, units) the units: only a call tells which."""
    return any(isinstance(module, nn.BatchNorm1d) for module in model.modules())


def _cut(
    model: nn.Module, followed: Followed, plan: list[tuple[Units, Tensor]]
) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Cut what was planned, as far as it is proven; gives the record of it, and kinds and names of what is left.

    Raises TechniqueError where nothing is: then the numbers of units that are left do not go together.
    """
    holding = followed.prover.largest(plan) if plan else plan
    if plan and not holding:
        raise TechniqueError(
            f"the {type(model).__name__} does not compute the same with these numbers of units left as with the others "
            "masked",
            "use scope='local' (no '-global' in the name), so that all layers lose the same fraction, or exclude some "
            f"of {names_of(units for units, _ in plan)}",
        )
    done = [(units.kind, units.name) for units, _ in holding]
    left: set[tuple[str, str]] = {(units.kind, units.name) for units, _ in plan if (units.kind, units.name) not in done}
    refused = [*followed.refused, *sorted(name for _, name in left)]
    return {**cut(model, holding), "groups": [list(each) for each in done], "refused": refused}, left


def _nothing_found(model: nn.Module, followed: Followed | None, *, has_data: bool) -> TechniqueError:
    refused = "" if followed is None or not followed.refused else (
        f"; what was found does not compute the same once it is cut: {', '.join(map(repr, followed.refused))}"
    )  # fmt: skip
    wrong = "see why model(batch) fails on the first batch of data" if has_data else "give data=batches of real inputs"
    unknown = (
        "" if followed is not None or is_described(model, described(model)) else f"{wrong}, to follow a call of it; "
    )
    return TechniqueError(
        f"structured pruning found no heads, units or channels in the {type(model).__name__}{refused}",
        f"{unknown}it knows the architectures {', '.join(architectures())}, and of other models what it can prove; "
        "another is added as docs/extending.md shows",
    )


def shrink(model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """Give a fresh model the shape that was recorded, in place.

    Raises StorageError for no such record, and for one of groups that are not found in the model.
    """
    kept, of = (_counts(structure, key) for key in ("kept", "of"))
    record = record_in(structure)
    model = split_attention(model)
    coupled = set(record.groups)
    left = {(kind, name) for kind, counts in kept.items() for name in counts} - coupled
    groups = [group for group in find_groups(model) if (group.kind, group.name) not in coupled] if left else []
    unknown = left - {(group.kind, group.name) for group in groups}
    if unknown:
        kind, name = min(unknown)
        raise StorageError(
            f"some {kind} of {name!r} were removed, and none are found in this {type(model).__name__}",
            "register the architecture that it was pruned by (docs/extending.md)",
        )
    fields = following(model, groups, {(name, kind): n for kind, names in of.items() for name, n in names.items()})
    for group in groups:
        count = kept.get(group.kind, {}).get(group.name)
        if count is not None and count < group.count:
            group.keep(torch.arange(count))
    restore(model, record)
    sync_configs(model, fields)
    return model


def _counts(structure: Mapping[str, Any], key: str) -> dict[str, dict[str, int]]:
    try:
        return msgspec.convert(structure.get(key, {}), type=dict[str, dict[str, Annotated[int, msgspec.Meta(ge=1)]]])
    except msgspec.ValidationError as error:
        raise StorageError(f"the record of what was kept is broken: {error}", "save the model again") from error


def _selected(groups: Sequence[Group | Coupled], model: nn.Module, technique: Structured) -> list[Group | Coupled]:
    """Groups of which some layer is included, and none excluded: all of them are cut."""
    included = selected(model, technique.include, ())
    allowed = selected(model, (), technique.exclude)
    names = {module: name for name, module in model.named_modules()}
    layers = [{names[layer] for layer in group.layers} for group in groups]
    return [group for group, mine in zip(groups, layers, strict=True) if mine <= allowed and mine & included]


def _original_counts(model: nn.Module, groups: Sequence[Group | Coupled]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {(group.name, group.kind): group.count for group in groups}
    for step in reversed(provenance(model)):
        for kind, counts in step.structure.get("of", {}).items():
            found.update({(name, kind): count for name, count in counts.items() if (name, kind) in found})
    return found


def _counts_to_keep(
    groups: Sequence[Group | Coupled],
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
    asked = technique.round_to if kind == "units" else 1
    multiples = {group.name: math.lcm(asked, group.multiple if isinstance(group, Group) else 1) for group in groups}
    return {
        group.name: min(
            group.count, math.ceil(max(1, wanted[group.name]) / multiples[group.name]) * multiples[group.name]
        )
        for group in groups
    }


def _ranked_together(
    groups: Sequence[Group | Coupled], importance: Mapping[tuple[str, str], Tensor], total: int, technique: Structured
) -> dict[str, int]:
    """Each group keeps its best unit; the others compete for what is left of ``total``."""
    candidates: list[tuple[float, str]] = []
    for group in groups:
        values = importance[group.name, group.kind]
        if technique.importance == "magnitude":  # layers have scales of their own; Taylor is in units of the loss
            values = values / values.mean().clamp(min=torch.finfo(values.dtype).tiny)
        ranked = values.sort(dim=-1, descending=True).values.reshape(-1, group.count).mean(dim=0)
        candidates += [(value, group.name) for value in ranked[1:].tolist()]
    kept = {group.name: 1 for group in groups}
    for _, name in sorted(candidates, key=lambda entry: -entry[0])[: max(0, total - len(groups))]:
        kept[name] += 1
    return kept


def largest(importance: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` most important units (K,), or of each lane (L, K), in ascending order.

    Among equals the later ones go first.
    """
    order = importance.argsort(dim=-1, descending=True, stable=True)
    return order[..., :count].sort(dim=-1).values

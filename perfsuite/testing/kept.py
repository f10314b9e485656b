"""Which units of a model a pruned one still has: read off the bytes of its weights, whatever its technique says.

Those of groups that architectures and chains declare, and those that were found by following a call.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perfsuite.techniques.pruning.coupling.find import follow
from perfsuite.techniques.pruning.coupling.proof import Plan, mask
from perfsuite.techniques.pruning.coupling.restore import record_in
from perfsuite.techniques.pruning.coupling.units import Part, Units, cut, put
from perfsuite.techniques.pruning.groups import Group, described, find_groups
from perfsuite.techniques.recorded import Digested, provenance
from perfsuite.testing.strategies import Sample


@dataclass(frozen=True)
class Declared:
    """A group of the original, the units of it that are left, and how many parameters each of them owned.

    ``kept`` (K,), or (L, K) of L lanes. In a chain the removal of a unit cuts the rows of the next group: what a unit
    owned is told of a model in which the groups before are cut.
    """

    group: Group
    kept: Tensor
    owned: int


@dataclass(frozen=True)
class Kept:
    """What is left of each group: declared ones, and ``found`` ones, with the units of each (K,)."""

    declared: tuple[Declared, ...]
    found: tuple[tuple[Units, Tensor], ...]

    def mask(self, original: nn.Module) -> None:
        """Zero, in place, what reads the units that are gone."""
        with torch.no_grad():
            for each in self.declared:
                mask_units(each.group, each.kept)
        mask(original, self.found)

    def owned_by_the_gone(self, original: nn.Module) -> int:
        """How many parameters the units that are gone owned."""
        smaller = copy.deepcopy(original)
        cut(smaller, self.found)
        sizes = [sum(p.numel() for p in model.parameters()) for model in (original, smaller)]
        gone = (each.owned * (each.group.count - each.kept.shape[-1]) for each in self.declared)
        return sizes[0] - sizes[1] + sum(gone)


def kept_units(original: nn.Module, small: nn.Module, sample: Sample) -> Kept:
    """Raises AssertionError where what is left are not some of the original's units."""
    found = found_groups(original, small, sample)
    cut_elsewhere = {original.get_submodule(path) for units, _ in found for path in units.modules}
    return Kept(tuple(_declared(original, small, cut_elsewhere)), tuple(found))


def found_groups(original: nn.Module, small: nn.Module, sample: Sample) -> Plan:
    """The groups that a call shows, of those that the small model's record names, and which units are left of each."""
    steps = provenance(small)[len(provenance(original)) :]
    named = {group for step in steps for group in record_in(step.structure).groups}
    followed = follow(original, Digested(sample.data).first(), described(original)) if named else None
    groups = [] if followed is None else [each for each in followed.groups if (each.kind, each.name) in named]
    missing = named - {(group.kind, group.name) for group in groups}
    assert not missing, f"no such units are found in the original: {sorted(missing)}"
    return [(group, _left(group, original, small)) for group in groups]


def turn(model: nn.Module, groups: Sequence[Units]) -> None:
    """Have the units of these groups change places, in place: the last is the first."""
    for group in groups:
        for part in group.parts:
            weight = part.places[0].of(model).detach()
            order = torch.arange(weight.shape[part.dim])
            order[part.positions.flatten()] = part.positions.flip(0).flatten()
            put(model, part.places, weight.index_select(part.dim, order))


def _declared(original: nn.Module, small: nn.Module, without: set[nn.Module]) -> list[Declared]:
    """Found by replaying the groups, one after the other. ``without``: modules that are cut by other ways."""
    left = {(group.name, group.kind): group for group in find_groups(small)}
    found = []
    for group, replayed in zip(find_groups(original), find_groups(copy.deepcopy(original)), strict=True):
        if without.isdisjoint(group.layers):
            mine, theirs = _unit_bytes(replayed), _unit_bytes(left[group.name, group.kind])
            lanes = [_places(own, kept, group.name) for own, kept in zip(mine, theirs, strict=True)]
            kept = torch.tensor(lanes if len(lanes) > 1 else lanes[0])
            found.append(Declared(group, kept, replayed.owned))
            replayed.keep(kept)
    return found


def _places(mine: list[bytes], theirs: list[bytes], name: str) -> list[int]:
    kept = [index for index, unit in enumerate(mine) if unit in set(theirs)]
    assert [mine[index] for index in kept] == theirs, f"the units of {name} are not some of the original's"
    return kept


def _unit_bytes(group: Group) -> list[list[bytes]]:
    """Of each lane, of which most groups have one."""
    source = group.sources[0]
    rows = source.by_unit(source.values.detach())
    bias = getattr(source.layer, "bias", None) if source.tensor == "weight" else None
    if bias is not None:
        first = source.features // source.per_count * source.before
        mine = bias.detach()[first : first + group.count * source.width]
        rows = torch.cat([rows, mine.unflatten(0, (-1, source.width))], dim=1)
    lanes = rows if rows.dim() == 3 else rows[None]
    return [[row.contiguous().numpy().tobytes() for row in lane] for lane in lanes]


def mask_units(group: Group, kept: Tensor) -> None:
    """Zero what reads the units that are gone."""
    for member in group.members:
        gone = torch.ones_like(member.sink.values)
        index = member.sink.index(kept)
        shape = [1] * gone.dim()
        shape[member.sink.axis] = index.shape[-1]
        if index.dim() == 2:
            shape[0] = len(index)
        whole = [index.shape[-1] if at == member.sink.axis else size for at, size in enumerate(gone.shape)]
        gone.scatter_(member.sink.axis, index.reshape(shape).expand(whole), 0)
        member.sink.values.masked_fill_(gone.bool(), 0)


def _left(group: Units, original: nn.Module, small: nn.Module) -> Tensor:
    """The units (K,) of a group that are left, by the part whose numbers tell them apart best."""
    part = max(group.parts, key=lambda part: _told_apart(part, original))
    left = torch.zeros(part.places[0].of(original).shape[part.dim], dtype=torch.bool)
    left[_slices_left(part, original, small, group.name)] = True
    whole, some = left[part.positions].all(dim=1), left[part.positions].any(dim=1)
    assert torch.equal(whole, some), f"a unit of {group.name} is left in part"
    return whole.nonzero().flatten()


def _told_apart(part: Part, model: nn.Module) -> int:
    """How many numbers each of its slices has of its own."""
    weight = part.places[0].of(model).detach()
    return len(weight.unique()) // len(weight.movedim(part.dim, 0))


def _slices_left(part: Part, original: nn.Module, small: nn.Module, name: str) -> list[int]:
    """Where slices of the small tensor stood in the original, of which other groups may have cut other dimensions."""
    mine, theirs = (
        part.places[0].of(model).detach().movedim(part.dim, 0).flatten(1).tolist()
        if part.places[0].of(model).dim() > 1
        else part.places[0].of(model).detach()[:, None].tolist()
        for model in (original, small)
    )
    places, at = [], 0
    for row in theirs:
        while at < len(mine) and not _is_part_of(row, mine[at]):
            at += 1
        assert at < len(mine), f"the units of {name} are not some of the original's"
        places.append(at)
        at += 1
    return places


def _is_part_of(few: list[float], many: list[float]) -> bool:
    """Whether these numbers stand among others in the same order."""
    rest = iter(many)
    return all(number in rest for number in few)

"""Groups of units in a model that was followed: what of which tensors is cut with each unit, and cutting it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, own_parameters
from perfsuite.techniques.pruning.coupling.atoms import FROZEN, Role
from perfsuite.techniques.pruning.coupling.trace import Trace

_SIZES: Mapping[Role, tuple[str, ...]] = {
    "makes": ("out_features", "out_channels", "nf", "embedding_dim"),
    "reads": ("in_features", "in_channels", "nx", "input_size", "hidden_size"),
    "follows": ("num_features", "num_channels", "num_parameters"),
}


@dataclass(frozen=True)
class Place:
    """A tensor of a module: the module's path and the name of the attribute."""

    module: str
    name: str

    def of(self, model: nn.Module) -> Tensor:
        tensor: Tensor = getattr(model.get_submodule(self.module), self.name)
        return tensor


@dataclass(frozen=True, eq=False)
class Part:
    """What a group has of a tensor, which may stand in several places: positions (U, W) along ``dim``."""

    places: tuple[Place, ...]
    dim: int
    roles: frozenset[Role]
    positions: Tensor

    def per_unit(self, values: Tensor) -> Tensor:
        """Sums, for each unit (U,), of a tensor that is shaped like this one."""
        along = values.transpose(0, self.dim).flatten(1).sum(dim=1) if values.dim() > 1 else values
        return along[self.positions.to(along.device)].sum(dim=1)


@dataclass(frozen=True)
class Number:
    """An attribute that falls by ``per_unit`` with each unit; ``place``: where it stands in a tuple."""

    module: str
    name: str
    per_unit: int
    place: int | None = None


@dataclass(frozen=True, eq=False)
class Wanted:
    """A number in the code of ``module`` that counts units; the attribute that it comes from is not known."""

    module: str
    value: int
    per_unit: int
    name: str = ""


@dataclass(frozen=True, eq=False)
class Units:
    """A row of units that no architecture describes. ``name``: of the first layer that computes them."""

    kind: Literal["heads", "units"]
    name: str
    parts: tuple[Part, ...]
    wanted: tuple[Wanted, ...] = ()
    numbers: tuple[Number, ...] = ()

    @property
    def count(self) -> int:
        return len(self.parts[0].positions)

    @property
    def modules(self) -> frozenset[str]:
        return frozenset(place.module for part in self.parts for place in part.places)


def units_of(model: nn.Module, trace: Trace) -> list[Units]:
    """Groups of interchangeable units: those that have as many positions of the same tensors."""
    places = _places(model)
    axes = [axis for axis in trace.algebra.atoms.axes if axis.roles and id(axis.tensor) in places]
    members: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for number, axis in enumerate(axes):
        roots = trace.algebra.atoms.roots(axis.labels)
        for position, root in zip(
            (roots != FROZEN).nonzero().flatten().tolist(), roots[roots != FROZEN].tolist(), strict=True
        ):
            members[root].setdefault(number, []).append(position)
    alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for root, held in members.items():
        alike[tuple((number, len(held[number])) for number in sorted(held))].append(root)
    found = []
    for signature, alike_roots in alike.items():
        mine = [axes[number] for number, _ in signature]
        roles = {role for axis in mine for role in axis.roles}
        if len(alike_roots) > 1 and {"makes", "reads"} <= roles:
            positions_of = [torch.tensor([members[root][number] for root in alike_roots]) for number, _ in signature]
            parts = [
                Part(places[id(axis.tensor)], axis.dim, frozenset(axis.roles), positions)
                for axis, positions in zip(mine, positions_of, strict=True)
            ]
            found.append((alike_roots, parts))
    return _groups(model, trace, found)


def _groups(model: nn.Module, trace: Trace, found: Sequence[tuple[list[int], list[Part]]]) -> list[Units]:
    order = {place: number for number, place in enumerate(_all_places(model))}
    heads, wanted = trace.algebra.atoms.heads, _wanted(trace, [roots for roots, _ in found])
    groups = []
    for number, (roots, parts) in enumerate(found):
        first = min((part for part in parts if "makes" in part.roles), key=lambda part: order[part.places[0]])
        rest = (part for part in parts if part is not first)
        kind: Literal["heads", "units"] = "heads" if set(roots) & heads else "units"
        groups.append(Units(kind, first.places[0].module, (first, *rest), tuple(wanted[number])))
    groups.sort(key=lambda group: (order[group.parts[0].places[0]], int(group.parts[0].positions.min())))
    return _named_apart(groups)


def _wanted(trace: Trace, groups: Sequence[list[int]]) -> dict[int, list[Wanted]]:
    """By group, the numbers that count as many of each of its units."""
    group_of = {root: number for number, roots in enumerate(groups) for root in roots}
    wanted: dict[int, list[Wanted]] = defaultdict(list)
    for count in trace.all_counts():
        times: dict[int, list[int]] = defaultdict(list)
        found = trace.algebra.atoms.roots(count.labels).unique(return_counts=True)
        for root, number in zip(*(part.tolist() for part in found), strict=True):
            if root in group_of:
                times[group_of[root]].append(number)
        for group, each in times.items():
            if len(each) == len(groups[group]) and len(set(each)) == 1:
                wanted[group].append(Wanted(count.owner, len(count.labels), each[0], count.name))
    return wanted


def _named_apart(groups: list[Units]) -> list[Units]:
    """Several groups of one layer are told apart by a number behind its name."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for group in groups:
        seen[group.name] += 1
        number = seen[group.name]
        named.append(group if number == 1 else replace(group, name=f"{group.name}#{number}"))
    return named


def _all_places(model: nn.Module) -> Iterator[Place]:
    for path, module in model.named_modules():
        for name in (*own_parameters(module), *own_buffers(module)):
            yield Place(path, name)


def _places(model: nn.Module) -> dict[int, tuple[Place, ...]]:
    found: dict[int, tuple[Place, ...]] = defaultdict(tuple)
    for place in _all_places(model):
        found[id(getattr(model.get_submodule(place.module), place.name))] += (place,)
    return found


def cut(model: nn.Module, plan: Iterable[tuple[Units, Tensor]]) -> dict[str, Any]:
    """Remove units, in place: of each group all but those (K,) that are kept. Gives a record for ``restore``."""
    gone: dict[tuple[tuple[Place, ...], int], list[Tensor]] = defaultdict(list)
    numbers: dict[tuple[str, str], Any] = {}
    roles: dict[tuple[tuple[Place, ...], int], frozenset[Role]] = {}
    for group, kept in plan:
        removed = without(group.count, kept)
        for part in group.parts:
            gone[part.places, part.dim].append(part.positions[removed].flatten())
            roles[part.places, part.dim] = part.roles
        for number in group.numbers:
            _lower(model, number, len(removed), numbers)
    for (places, dim), positions in gone.items():
        _cut(model, places, dim, torch.cat(positions), roles[places, dim], numbers)
    shapes = {f"{p.module}.{p.name}".lstrip("."): list(p.of(model).shape) for places, _ in gone for p in places}
    named: dict[str, dict[str, Any]] = defaultdict(dict)
    for (module, name), value in numbers.items():
        named[module][name] = value
    return {"shapes": shapes, "numbers": dict(named)}


def without(count: int, kept: Tensor) -> Tensor:
    """The units (U - K,) that are not kept (K,)."""
    left = torch.ones(count, dtype=torch.bool)
    left[kept.cpu()] = False
    return left.nonzero().flatten()


def _lower(model: nn.Module, number: Number, units: int, record: dict[tuple[str, str], Any]) -> None:
    module: Any = model.get_submodule(number.module)
    value = getattr(module, number.name)
    less = number.per_unit * units
    if number.place is None:
        value = value - less
    else:
        value = type(value)([v - less if i == number.place else v for i, v in enumerate(value)])
    setattr(module, number.name, value)
    record[number.module, number.name] = list(value) if number.place is not None else value


def _cut(
    model: nn.Module,
    places: tuple[Place, ...],
    dim: int,
    positions: Tensor,
    roles: frozenset[Role],
    record: dict[tuple[str, str], Any],
) -> None:
    old = places[0].of(model)
    kept = without(old.shape[dim], positions)
    put(model, places, old.detach().index_select(dim, kept.to(old.device)))
    for place in places:
        module = model.get_submodule(place.module)
        for name in (name for role in roles for name in _SIZES[role]):
            if vars(module).get(name) == old.shape[dim] and (place.module, name) not in record:
                setattr(module, name, len(kept))
                record[place.module, name] = len(kept)


def put(model: nn.Module, places: tuple[Place, ...], new: Tensor) -> None:
    """Set a tensor in all its places; a parameter stays one, and stays shared."""
    old = places[0].of(model)
    value = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    for place in places:
        setattr(model.get_submodule(place.module), place.name, value)

"""What can be removed from a model as a unit: an attention head, a feed-forward unit, a channel.

A group is a row of interchangeable units. Each unit is computed by some rows of its *sources* (and
of *companions*: queries and keys, batch norms) and read by some columns of its *sink*; nothing else
sees it, so that removing it equals masking it where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import mul
from typing import Any, Literal

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.errors import TechniqueError
from perfsuite.protocols import Architecture
from perfsuite.registry import architectures
from perfsuite.techniques.pruning.chains import Chain, chains
from perfsuite.techniques.pruning.slices import Columns, Rows, Slice


@dataclass(frozen=True)
class Group:
    """One row of units.

    Args:
        kind: which fraction of a technique it goes by, that of "heads" or of "units".
        sources: the layers whose outputs the unit's value is a product of; the product of their norms bounds it.
        sink: the layer that reads the units.
        companions: further layers that compute a unit, and that its importance does not count.
        owner: the module whose ``attributes`` say how many units there are.
        attributes: by name, how much of the number each unit stands for: {"num_heads": 1, "all_head_size": 64}.
        config: the same of the fields of a Hugging Face model's config, which follow where all layers agree.
        name: within the module that has several groups of one kind; ``find_groups`` puts the module's before it.
        multiple: kept units are one of it, as kernels want them.
        tied: groups of which the same units go, as where all layers add one bias for each head to their scores.
    """

    kind: Literal["heads", "units"]
    sources: tuple[Rows, ...]
    sink: Columns
    companions: tuple[Slice, ...] = ()
    owner: Any = None
    attributes: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, int] = field(default_factory=dict)
    name: str = ""
    tied: tuple[Group, ...] = ()
    multiple: int = 1

    @property
    def count(self) -> int:
        return self.sources[0].features // self.sources[0].per_count

    @property
    def members(self) -> tuple[Group, ...]:
        """Itself, and those that are tied to it."""
        return (self, *(member for group in self.tied for member in group.members))

    @property
    def slices(self) -> tuple[Slice, ...]:
        return tuple(part for member in self.members for part in (*member.sources, *member.companions, member.sink))

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        return tuple(part.layer for part in self.slices)

    @property
    def readers(self) -> list[tuple[Tensor, Slice]]:
        """The weights that read the units, and which of their columns do."""
        return [(member.sink.values, member.sink) for member in self.members]

    def magnitude(self) -> Tensor:
        """For each unit (U,): the norms of what computes it times the norm of what reads it, which bounds its part."""
        return torch.stack([_bound(member) for member in self.members]).sum(dim=0)

    @property
    def owned(self) -> int:
        """How many parameters go with each unit."""
        return sum({key: size for part in self.slices for key, size in part.owned.items()}.values()) // self.count

    def keep(self, units: Tensor) -> None:
        """Remove all other units, in place. ``units`` (K,) are indices in ascending order, or (L, K) those of lanes."""
        together: dict[tuple[nn.Module, str, int], list[Slice]] = {}
        for part in self.slices:
            together.setdefault((part.layer, part.tensor, part.dim), []).append(part)
        for parts in together.values():
            parts.sort(key=lambda part: part.before)
            parts[0].cut(torch.cat([part.index(units) for part in parts], dim=-1))
        for member in self.members:
            for name, per_unit in member.attributes.items():
                setattr(member.owner, name, units.shape[-1] * per_unit)


def _bound(group: Group) -> Tensor:
    return reduce(mul, (part.norms(part.values.detach().cpu()) for part in (*group.sources, group.sink)))


def find_groups(model: nn.Module) -> list[Group]:
    """Every group of a model: of the architectures that are registered, or else of plain chains of layers.

    Raises TechniqueError for a module that two architectures describe.
    """
    known = architectures()
    declared = [group for name, module in model.named_modules() for group in _declared(name, module, known)]
    found = declared or [_of_chain(model, chain) for chain in chains(model)]
    shared = _shared_parameters(model)
    return [group for group in found if not any(p in shared for layer in group.layers for p in layer.parameters())]


def described(model: nn.Module) -> set[str]:
    """Paths of the parts that architectures describe: their modules, and what they stand in of the same package.

    So a Hugging Face model of which some heads are known is known as a whole; where only feed-forward networks are, the
    layers of these are, and its attention is still to be found. Not so for torch's own modules, which people put around
    anything.
    """
    modules = dict(model.named_modules())
    groups = {name: _own_groups(module) for name, module in modules.items()}
    mine = {name: _around(name, modules) for name, found in groups.items() if found}
    with_heads = {mine[name] for name in mine if any(group.kind == "heads" for group in groups[name])}
    paths = {module: name for name, module in modules.items()}
    known = {around for around in mine.values() if around in with_heads}
    rest = (group for name, around in mine.items() if around not in with_heads for group in groups[name])
    return known | {paths[layer] for group in rest for layer in group.layers if layer in paths}


def _own_groups(module: nn.Module) -> list[Group]:
    """The groups that architectures know of a module itself."""
    mine = (architecture for architecture in architectures().values() if architecture.is_mine(module))
    return [group for architecture in mine for group in architecture.groups(module)]


def _around(name: str, modules: Mapping[str, nn.Module]) -> str:
    """The path of the outermost module of the same package that this one stands in."""
    package = _package(modules[name])
    paths = [".".join(name.split(".")[:end]) for end in range(name.count(".") + 2)] if name else [""]
    return name if package == "torch" else next(path for path in paths if _package(modules[path]) == package)


def _package(module: nn.Module) -> str:
    return type(module).__module__.partition(".")[0]


def _declared(name: str, module: nn.Module, known: Mapping[str, Architecture]) -> Iterator[Group]:
    """The groups of a module whose layers are plain: neither quantized, nor computed from other weights."""
    mine = {architecture: key for key, architecture in known.items() if architecture.is_mine(module)}
    if len(mine) > 1:
        raise TechniqueError(
            f"{' and '.join(map(repr, mine.values()))} are architectures that all describe {name!r}, "
            f"a {type(module).__name__}",
            "register only one of them",
        )
    for architecture in mine:
        for group in architecture.groups(module):
            if all(part.is_plain for part in group.slices):
                yield replace(group, name=".".join(part for part in (name, group.name) if part))


def class_is(package: str, *names: str) -> Callable[[nn.Module], bool]:
    """A test for modules of one of these classes of a package, which need not be imported; not for derived classes."""

    def is_one(module: nn.Module) -> bool:
        kind = type(module)
        return kind.__name__ in names and kind.__module__.partition(".")[0] == package

    return is_one


def _of_chain(model: nn.Module, chain: Chain) -> Group:
    return Group(
        "units",
        (Rows(model.get_submodule(chain.source)),),
        Columns(model.get_submodule(chain.sink), chain.width),
        tuple(Rows(model.get_submodule(name), width) for name, width in chain.norms),
        name=chain.source,
    )


def _shared_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Parameters that more than one layer owns: to cut one would cut the other."""
    seen: set[nn.Parameter] = set()
    shared: set[nn.Parameter] = set()
    for _, module in model.named_modules(remove_duplicate=False):  # a layer in two places is shared, too
        for p in own_parameters(module).values():
            if p is not None:
                (shared if p in seen else seen).add(p)
    return shared


def check_divisible(group: Group) -> None:
    """Raises TechniqueError for a group of which some layer does not have ``width`` features for each unit."""
    what = "attention " if group.kind == "heads" else ""
    for part in group.slices:
        if part.features != group.count * part.per_count:
            raise TechniqueError(
                f"the {part.features} features of {what}{group.name!r} cannot be divided into {group.count} "
                f"{group.kind} of {part.per_count}",
                f"exclude it: exclude=({group.name!r},)",
            )

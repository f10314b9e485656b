"""What can be removed from a model as a unit: an attention head, a feed-forward unit, a channel.

A group is a row of interchangeable units. Each unit is computed by some rows of its *sources* (and
of *companions*: queries and keys, batch norms) and read by some columns of its *sink*; nothing else
sees it, so that removing it equals masking it where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.errors import TechniqueError
from perfsuite.protocols import Architecture
from perfsuite.registry import architectures
from perfsuite.techniques.common import is_conv1d, is_linear
from perfsuite.techniques.pruning.chains import Chain, chains


@dataclass(frozen=True)
class Slice:
    """The part of a layer that belongs to a group: ``width`` rows or columns of its weight for each unit.

    One layer may compute several things one after the other, such as queries, keys, values. ``before`` and ``after``
    say how many rows or columns for each unit stand before and after these (``fused`` counts them).
    ``tensor``: the parameter that is cut, where it is no layer's weight; the module that has it is the layer then.
    """

    layer: Any
    width: int = 1
    before: int = 0
    after: int = 0
    tensor: str = "weight"
    dim: ClassVar[int]
    vectors: ClassVar[tuple[str, ...]] = ()  # tensors (features,) that are cut along
    sizes: ClassVar[tuple[str, ...]]  # attributes that say how many features there are

    @property
    def features(self) -> int:
        """How many rows or columns the layer has: of all units, and of all that it computes."""
        sized = self.tensor == "weight" and getattr(self.layer, "num_features", None)
        return int(sized or self.values.shape[self.axis])

    @property
    def per_count(self) -> int:
        """How many of them go with each unit."""
        return self.before + self.width + self.after

    @property
    def values(self) -> Tensor:
        """The parameter that is cut."""
        found: Tensor = getattr(self.layer, self.tensor)
        return found

    @property
    def is_plain(self) -> bool:
        """Whether the parameter is the layer's own, and no subclass of ``nn.Linear`` computes something else."""
        is_other = isinstance(self.layer, nn.Linear) and not is_linear(self.layer)
        return not is_other and own_parameters(self.layer).get(self.tensor) is not None

    @property
    def axis(self) -> int:
        """The dimension of the parameter that units lie along."""
        return 1 - self.dim if is_conv1d(self.layer) else self.dim

    def norms(self, values: Tensor) -> Tensor:
        """The L2 norm, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        return self.by_unit(values.double().square()).sum(dim=-1).sqrt()

    def per_unit(self, values: Tensor) -> Tensor:
        """Sums, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        return self.by_unit(values).sum(dim=-1)

    def by_unit(self, values: Tensor) -> Tensor:
        """What a tensor that is shaped like the layer's weight holds for each unit (U, N)."""
        rows = values.movedim(self.axis, 0)
        count = len(rows) // self.per_count
        return rows.narrow(0, count * self.before, count * self.width).reshape(count, -1)

    def index(self, units: Tensor) -> Tensor:
        """Which rows or columns belong to these units."""
        start = self.features // self.per_count * self.before
        return (start + units.cpu()[:, None] * self.width + torch.arange(self.width)).flatten()

    def cut(self, index: Tensor) -> None:
        """Keep these rows or columns of the layer alone, in place."""
        _cut(self.layer, self.tensor, self.axis, index)
        if self.tensor == "weight":
            for name in self.vectors:
                _cut(self.layer, name, 0, index)
            for name in self.sizes:
                if hasattr(self.layer, name):
                    setattr(self.layer, name, len(index))

    @property
    def owned(self) -> dict[tuple[nn.Module, str], int]:
        """Elements of what belongs to units, by layer and name: all parameters of a layer that computes them."""
        whole = isinstance(self, Rows) and self.tensor == "weight"
        names = own_parameters(self.layer) if whole else (self.tensor,)
        tensors = {name: own_parameters(self.layer).get(name) for name in names}
        return {(self.layer, name): p.numel() for name, p in tensors.items() if p is not None}


class Rows(Slice):
    """``width`` outputs of a layer for each unit: rows of a weight (O, I, ...), elements of a bias or batch norm."""

    dim = 0
    vectors = ("bias", "running_mean", "running_var")
    sizes = ("out_features", "out_channels", "num_features", "nf")


class Columns(Slice):
    """``width`` inputs of a layer for each unit: columns of a weight (O, I, ...)."""

    dim = 1
    sizes = ("in_features", "in_channels", "nx", "embedding_dim")


def fused(layer: Any, *widths: int) -> tuple[Rows, ...]:
    """The rows of a layer that computes several things one after the other, each ``width`` wide for each unit."""
    return tuple(Rows(layer, width, sum(widths[:at]), sum(widths[at + 1 :])) for at, width in enumerate(widths))


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


def find_groups(model: nn.Module) -> list[Group]:
    """Every group of a model: of the architectures that are registered, or else of plain chains of layers.

    Raises TechniqueError for a module that two architectures describe.
    """
    known = architectures()
    declared = [group for name, module in model.named_modules() for group in _declared(name, module, known)]
    found = declared or [_of_chain(model, chain) for chain in chains(model)]
    shared = _shared_parameters(model)
    return [group for group in found if not any(p in shared for layer in group.layers for p in layer.parameters())]


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


def _cut(layer: nn.Module, name: str, dim: int, index: Tensor) -> None:
    old = getattr(layer, name, None)
    if old is not None:
        new = old.detach().index_select(dim, index.to(old.device))
        setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)

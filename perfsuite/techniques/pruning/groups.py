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
    """The part of a layer that belongs to a group: ``width`` rows or columns of its weight for each unit."""

    layer: Any
    width: int = 1
    dim: ClassVar[int]
    vectors: ClassVar[tuple[str, ...]] = ()  # tensors (features,) that are cut along
    sizes: ClassVar[tuple[str, ...]]  # attributes that say how many features there are

    @property
    def features(self) -> int:
        """How many rows or columns there are, of all units together."""
        return int(getattr(self.layer, "num_features", None) or self.layer.weight.shape[self._weight_dim])

    @property
    def _weight_dim(self) -> int:
        return 1 - self.dim if is_conv1d(self.layer) else self.dim

    def norms(self, values: Tensor) -> Tensor:
        """The L2 norm, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        return self.per_unit(values.double().square()).sqrt()

    def per_unit(self, values: Tensor) -> Tensor:
        """Sums, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        rows = values.transpose(0, self._weight_dim).flatten(1)
        units: Tensor = rows.sum(dim=1).unflatten(0, (-1, self.width)).sum(dim=1)
        return units

    def keep(self, units: Tensor) -> None:
        """Cut the layer down to these units, in place."""
        index = (units.cpu()[:, None] * self.width + torch.arange(self.width)).flatten()
        _cut(self.layer, "weight", self._weight_dim, index)
        for name in self.vectors:
            _cut(self.layer, name, 0, index)
        for name in self.sizes:
            if hasattr(self.layer, name):
                setattr(self.layer, name, len(index))


class Rows(Slice):
    """``width`` outputs of a layer for each unit: rows of a weight (O, I, ...), elements of a bias or batch norm."""

    dim = 0
    vectors = ("bias", "running_mean", "running_var")
    sizes = ("out_features", "out_channels", "num_features", "nf")


class Columns(Slice):
    """``width`` inputs of a layer for each unit: columns of a weight (O, I, ...)."""

    dim = 1
    sizes = ("in_features", "in_channels", "nx")


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
    """

    kind: Literal["heads", "units"]
    sources: tuple[Rows, ...]
    sink: Columns
    companions: tuple[Rows, ...] = ()
    owner: Any = None
    attributes: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, int] = field(default_factory=dict)
    name: str = ""

    @property
    def count(self) -> int:
        return self.sources[0].features // self.sources[0].width

    @property
    def slices(self) -> tuple[Slice, ...]:
        return (*self.sources, *self.companions, self.sink)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        return tuple(part.layer for part in self.slices)

    def keep(self, units: Tensor) -> None:
        """Remove all other units, in place. ``units`` (K,) are indices in ascending order."""
        for part in self.slices:
            part.keep(units)
        for name, per_unit in self.attributes.items():
            setattr(self.owner, name, len(units) * per_unit)


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

    So a Hugging Face model of which some layers are known is known as a whole. Not so for torch's own modules, which
    people put around anything.
    """
    known, modules = architectures().values(), dict(model.named_modules())
    found = set()
    for name, module in modules.items():
        if any(architecture.is_mine(module) for architecture in known):
            around = [name] if _package(module) == "torch" else [
                ".".join(name.split(".")[:end]) for end in range(name.count(".") + 2)
            ]  # fmt: skip
            found.add(next(path for path in around if _package(modules[path]) == _package(module)))
    return found


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
            if all(is_linear(layer) for layer in group.layers):
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
        if part.features != group.count * part.width:
            raise TechniqueError(
                f"the {part.features} features of {what}{group.name!r} cannot be divided into {group.count} "
                f"{group.kind} of {part.width}",
                f"exclude it: exclude=({group.name!r},)",
            )


def _cut(layer: nn.Module, name: str, dim: int, index: Tensor) -> None:
    old = getattr(layer, name, None)
    if old is not None:
        new = old.detach().index_select(dim, index.to(old.device))
        setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)

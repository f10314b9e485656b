"""What can be removed from a model as a unit: an attention head, a feed-forward unit, a channel.

A group is a row of interchangeable units. Each unit is computed by some rows of its *source* (and
of *companions*: queries and keys, batch norms) and read by some columns of its *sink*; nothing else
sees it, so that removing it equals masking it where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import own_parameters
from perfsuite.errors import TechniqueError
from perfsuite.techniques.common import is_conv1d, owns_weight
from perfsuite.techniques.pruning.chains import Chain, chains


@dataclass(frozen=True)
class Slice:
    """The part of a layer that belongs to a group: ``width`` rows (dim 0) or columns (dim 1) for each unit."""

    layer: nn.Module
    dim: int
    width: int = 1

    def norms(self, values: Tensor) -> Tensor:
        """The L2 norm, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        return self.per_unit(values.double().square()).sqrt()

    def per_unit(self, values: Tensor) -> Tensor:
        """Sums, for each unit (U,), of a tensor that is shaped like the layer's weight."""
        dim = 1 - self.dim if is_conv1d(self.layer) else self.dim
        units: Tensor = values.transpose(0, dim).flatten(1).sum(dim=1).unflatten(0, (-1, self.width)).sum(dim=1)
        return units

    def keep(self, units: Tensor) -> None:
        """Cut the layer down to these units."""
        index = (units.cpu()[:, None] * self.width + torch.arange(self.width)).flatten()
        if isinstance(self.layer, nn.modules.batchnorm._BatchNorm):
            _cut(self.layer, ("weight", "bias", "running_mean", "running_var"), 0, index)
            self.layer.num_features = len(index)
            return
        turned = is_conv1d(self.layer)
        _cut(self.layer, ("weight",), 1 - self.dim if turned else self.dim, index)
        if self.dim == 0:
            _cut(self.layer, ("bias",), 0, index)
        for attribute in (
            ("out_features", "out_channels", "nf") if self.dim == 0 else ("in_features", "in_channels", "nx")
        ):
            if hasattr(self.layer, attribute):
                setattr(self.layer, attribute, len(index))


@dataclass(frozen=True)
class Group:
    """One row of units. ``owner`` keeps the numbers of heads in its attributes."""

    name: str
    kind: Literal["heads", "units"]
    source: Slice
    sink: Slice
    companions: tuple[Slice, ...] = ()
    owner: Any = None

    @property
    def count(self) -> int:
        weight: Any = self.source.layer.weight
        return int(weight.shape[1 if is_conv1d(self.source.layer) else 0]) // self.source.width

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        return tuple(part.layer for part in (self.source, self.sink, *self.companions))

    def keep(self, units: Tensor) -> None:
        """Remove all other units. ``units`` (K,) are indices in ascending order."""
        for part in (self.source, *self.companions, self.sink):
            part.keep(units)
        if self.kind == "heads":
            for attribute in ("num_heads", "num_attention_heads", "n_heads"):
                if hasattr(self.owner, attribute):
                    setattr(self.owner, attribute, len(units))
            if hasattr(self.owner, "all_head_size"):
                self.owner.all_head_size = len(units) * self.source.width


_LIKE_BERT = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra")
# (root package, class): query, key, value, output, and who knows the number of heads
_ATTENTIONS = {
    ("perfsuite", "SelfAttention"): ("query", "key", "value", "output", ""),
    ("perfsuite", "SplitAttention"): ("query", "key", "value", "out_proj", ""),
    ("transformers", "DistilBertSelfAttention"): ("q_lin", "k_lin", "v_lin", "out_lin", ""),
} | {
    ("transformers", f"{family}Attention"): ("self.query", "self.key", "self.value", "output.dense", "self")
    for family in _LIKE_BERT
}
# (root package, class): the layer that expands, the layer that contracts
_FEED_FORWARDS = {
    ("perfsuite", "FeedForward"): ("expand", "contract"),
    ("transformers", "FFN"): ("lin1", "lin2"),
    ("torch", "TransformerEncoderLayer"): ("linear1", "linear2"),
    ("torch", "TransformerDecoderLayer"): ("linear1", "linear2"),
} | {("transformers", f"{family}Layer"): ("intermediate.dense", "output.dense") for family in _LIKE_BERT}


def find_groups(model: nn.Module) -> list[Group]:
    """Every group of a model: of the encoders that are known by name, or else of plain chains of layers."""
    known = [group for name, module in model.named_modules() for group in _known(name, module)]
    found = known or [_of_chain(model, chain) for chain in chains(model)]
    shared = _shared_parameters(model)
    return [group for group in found if not any(p in shared for layer in group.layers for p in layer.parameters())]


def _known(name: str, module: nn.Module) -> Iterator[Group]:
    key = (type(module).__module__.partition(".")[0], type(module).__name__)
    if key in _ATTENTIONS:
        query, key_, value, output, owner_path = _ATTENTIONS[key]
        owner: Any = attrgetter(owner_path)(module) if owner_path else module
        width: int = getattr(owner, "head_dim", None) or owner.attention_head_size
        layers = [attrgetter(path)(module) for path in (value, query, key_, output)]
        if all(_is_plain(layer) for layer in layers):
            rows = [Slice(layer, 0, width) for layer in layers[:3]]
            yield Group(name, "heads", rows[0], Slice(layers[3], 1, width), tuple(rows[1:]), owner)
    if key in _FEED_FORWARDS and _is_pointwise(getattr(module, "activation", None)):
        expand, contract = (attrgetter(path)(module) for path in _FEED_FORWARDS[key])
        if _is_plain(expand) and _is_plain(contract):
            yield Group(name, "units", Slice(expand, 0), Slice(contract, 1))


def _is_plain(layer: Any) -> bool:
    """A linear layer whose weight is its own parameter, and not computed from others."""
    return type(layer) is nn.Linear and owns_weight(layer)


def _is_pointwise(activation: object) -> bool:
    """Of torch's encoder layers it may be any function: one that looks at several units keeps them all."""
    return activation is None or isinstance(activation, nn.Module) or activation in (F.relu, F.gelu)


def _of_chain(model: nn.Module, chain: Chain) -> Group:
    return Group(
        chain.source,
        "units",
        Slice(model.get_submodule(chain.source), 0),
        Slice(model.get_submodule(chain.sink), 1, chain.width),
        tuple(Slice(model.get_submodule(name), 0, width) for name, width in chain.norms),
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
    """Raises TechniqueError for a group whose rows are no multiple of its units' width."""
    layer: Any = group.source.layer
    features = layer.weight.shape[1 if is_conv1d(layer) else 0]
    if features % group.source.width:
        raise TechniqueError(
            f"the {features} features of attention {group.name!r} cannot be divided into heads of {group.source.width}",
            f"exclude it: exclude=({group.name!r},)",
        )


def _cut(layer: Any, names: tuple[str, ...], dim: int, index: Tensor) -> None:
    for name in names:
        old = getattr(layer, name)
        if old is not None:
            new = old.detach().index_select(dim, index.to(old.device))
            setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)

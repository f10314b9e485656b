"""Stacks of layers that run one after the other, each of which gives what the next one takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from perfsuite._compat.torch import own_modules
from perfsuite.errors import TechniqueError
from perfsuite.techniques.pruning.configs import configs_above, set_field

_ENCODERS = ("encoder_layers", "num_encoder_layers")
_DECODERS = ("decoder_layers", "num_decoder_layers")
_COUNTS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
_ATTRIBUTES = (*_COUNTS, *_ENCODERS, *_DECODERS)
_NUMBERS = ("layer_idx", "layer_id", "layer_index", "layer_number")  # of its own, as a layer and its parts keep it
_KNOWN = ("transformers", "torch", "perfsuite")


@dataclass(frozen=True)
class Stack:
    """Layers of one class in a list. ``name`` is the list's path; ``owner`` the module that runs them."""

    name: str
    model: nn.Module
    owner: Any
    layers: tuple[nn.Module, ...]

    @property
    def is_known(self) -> bool:
        """Whether its layers are known to run in a row; of other modules calibration data has to show it."""
        return type(self.owner).__module__.partition(".")[0] in _KNOWN

    @property
    def pinned(self) -> frozenset[int]:
        """Layers with parameters that others lack, and use: T5's first one has the bias of all."""
        names = [{name for name, _ in layer.named_parameters()} for layer in self.layers]
        common = set.intersection(*names)
        extra = [index for index, own in enumerate(names) if own - common]
        return frozenset(extra) if len(extra) == 1 else frozenset()

    def keep(self, kept: list[int]) -> None:
        """Remove all other layers, in place, and have configs, attributes and numbers of layers follow."""
        number = len(self.layers)
        setattr(self.owner, self.name.rpartition(".")[2], nn.ModuleList(self.layers[index] for index in kept))
        for attribute in _ATTRIBUTES:
            if vars(self.owner).get(attribute) == number:
                setattr(self.owner, attribute, len(kept))
        for new, old in enumerate(kept):
            _renumber(self.layers[old], old, new)
        for config in configs_above(self.model, self.name):
            _follow(config, number, kept, self.counted_by(config))

    def counted_by(self, config: Any) -> tuple[str, ...]:
        """The fields of a config that count these layers; an encoder and a decoder may have one each."""
        is_outermost = config is configs_above(self.model, self.name)[0]
        is_decoder = "Decoder" in type(self.owner).__name__ or getattr(self.owner, "is_decoder", False) is True
        own, others = (_DECODERS, _ENCODERS) if is_decoder else (_ENCODERS, _DECODERS)
        has_both = any(hasattr(config, name) for name in own) and is_outermost and is_decoder
        mapped = {
            getattr(config, "attribute_map", {}).get(name, name) for name in (*own, *(() if has_both else _COUNTS))
        }
        said = [name for name in mapped if getattr(config, name, None) == len(self.layers) and name not in others]
        return tuple(name for name in said if not isinstance(getattr(type(config), name, None), property))


def find_stacks(model: nn.Module) -> list[Stack]:
    """The stacks of a model: lists of layers of one class, which hold linear layers, and no lists inside of others.

    Raises TechniqueError for layers of which each has a part in another list, or that read what others have kept.
    """
    found: list[Stack] = []
    for name, module in model.named_modules():
        if type(module) is nn.ModuleList and not _is_inside_a_list(model, name) and _is_stack(module):
            owner = model.get_submodule(name.rpartition(".")[0])
            stack = Stack(name, model, owner, tuple(module))
            if not stack.is_known or _is_counted(stack):
                found.append(stack)
    stacks = _alone(found)
    for stack in stacks:
        _check(stack)
    return stacks


def _is_inside_a_list(model: nn.Module, name: str) -> bool:
    """As the blocks of one stage of several are."""
    parts = name.split(".")
    return any(isinstance(model.get_submodule(".".join(parts[:end])), nn.ModuleList) for end in range(1, len(parts)))


def _alone(stacks: list[Stack]) -> list[Stack]:
    """Those of which no field counts the layers of another one, too, as one does the blocks of all stages."""
    fields = [
        {(id(config), name) for config in configs_above(stack.model, stack.name) for name in stack.counted_by(config)}
        for stack in stacks
    ]
    return [
        stack
        for at, stack in enumerate(stacks)
        if not any(fields[at] & others for other, others in enumerate(fields) if other != at)
    ]


def _is_stack(layers: nn.ModuleList) -> bool:
    """Whether there are at least two layers of one class, each with several matrices, and each once.

    What they have in common has the same shape in all of them; stages grow.
    """
    kinds = {type(layer) for layer in layers}
    shapes: dict[str, set[torch.Size]] = {}
    for layer in layers:
        for name, p in layer.named_parameters():
            shapes.setdefault(name, set()).add(p.shape)
    is_even = len(layers) > 1 and len(kinds) == 1 and len({*layers}) == len(layers) and kinds != {nn.ModuleList}
    return is_even and all(len(found) == 1 for found in shapes.values()) and all(map(_has_matrices, layers))


def _has_matrices(layer: nn.Module) -> bool:
    matrices = [p for module in layer.modules() for p in module.parameters(recurse=False) if p.dim() == 2]
    return len(matrices) > 1


def _is_counted(stack: Stack) -> bool:
    """Whether a number of layers says how many there are: a list of experts or of heads has none."""
    counted = any(stack.counted_by(config) for config in configs_above(stack.model, stack.name))
    attributes = [vars(stack.owner).get(name) for name in _ATTRIBUTES]
    own: Any = getattr(stack.model, "config", None)
    return counted or len(stack.layers) in (*attributes, getattr(own, "num_layers", None))


def _check(stack: Stack) -> None:
    others = [
        name
        for name, module in own_modules(stack.owner).items()
        if isinstance(module, nn.ModuleList) and len(module) == len(stack.layers) and tuple(module) != stack.layers
    ]
    shared = any(getattr(config, "num_kv_shared_layers", 0) for config in configs_above(stack.model, stack.name))
    why = f"have parts in {others[0]!r} beside it" if others else "share keys and values" if shared else ""
    if why:
        raise TechniqueError(f"layers of {stack.name!r} {why}", f"exclude it: exclude=({stack.name!r},)")


def _renumber(layer: nn.Module, old: int, new: int) -> None:
    for module in layer.modules():
        for name in _NUMBERS:
            if vars(module).get(name) == old and not isinstance(vars(module)[name], bool):
                setattr(module, name, new)


def _follow(config: Any, number: int, kept: list[int], fields: tuple[str, ...]) -> None:
    """Counts, and lists with an entry for each layer, as ``layer_types``, follow."""
    for name in fields:
        set_field(config, name, len(kept))
    for name, values in list(_lists(config)):
        if fields and len(values) == number:
            set_field(config, name, [values[index] for index in kept])


def _lists(config: Any) -> Iterator[tuple[str, list[Any]]]:
    for name, values in vars(config).items():
        if isinstance(values, list) and "layer" in name and not name.startswith("_"):
            yield name, values

"""Configs that agree with the shapes of a model from which something was removed."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.reading import reads

BUILT = "perfsuite_built"  # what was set, as the model was built with it: loading builds it again


@dataclass(frozen=True)
class Field:
    """A field of a config that says how many units groups have, and for each of them how much of it is a unit's."""

    config: Any
    name: str
    groups: tuple[tuple[Group, int], ...]

    @property
    def numbers(self) -> set[int]:
        return {group.count * per_unit for group, per_unit in self.groups}

    def sync(self) -> None:
        """Set the field to what the shapes say; where layers disagree it is left, and the provenance record tells.

        A layer that reads the number of its config in each call has a config of its own then.
        """
        if len(self.numbers) == 1:
            _keep_width(self.config, self.groups[0][0])
            set_field(self.config, self.name, *self.numbers)
            return
        for group, per_unit in self.groups:
            kind: Any = type(group.owner)
            if f"config.{self.name}" in reads(kind):
                group.owner.config = copy.copy(group.owner.config)
                setattr(group.owner.config, self.name, group.count * per_unit)


def following(model: nn.Module, groups: Iterable[Group], originals: Mapping[tuple[str, str], int]) -> tuple[Field, ...]:
    """The fields of Hugging Face's configs that say, before anything is cut, how many units the groups below have.

    ``originals``: by name and kind, how many units groups had before any technique.
    """
    found: dict[tuple[int, str], list[tuple[Group, int]]] = defaultdict(list)
    configs: dict[int, Any] = {}
    for group in sorted(groups, key=lambda group: group.kind):
        for config in configs_above(model, group.name):
            configs[id(config)] = config
            for name, per_unit in group.config.items():
                found[id(config), _own_name(config, name)].append((group, per_unit))
    fields = (Field(configs[key], name, tuple(pairs)) for (key, name), pairs in found.items())
    return tuple(field for field in fields if _agrees(field, originals))


def sync_configs(model: nn.Module, fields: Iterable[Field]) -> None:
    """Make configs agree with the shapes: where a module has a ``sync_config``, and these fields."""
    for module in model.modules():
        sync: Any = getattr(module, "sync_config", None)
        if sync is not None:
            sync()
    for field in fields:
        field.sync()


def configs_above(model: nn.Module, name: str) -> list[Any]:
    """The config nearest to a place in a model, and others of its type above: encoders have copies of their model's."""
    found = [config for config in map(_config, _path(model, name)) if config is not None]
    return [config for config in found if type(config) is type(found[-1])]


def set_field(config: Any, name: str, value: Any) -> None:
    """Set a field. What the model was built with is kept: loading builds it again."""
    now, built = getattr(config, name), getattr(config, BUILT, {})
    if value != now:
        setattr(config, BUILT, built | {name: built.get(name, now)})
        setattr(config, name, value)


def _keep_width(config: Any, group: Group) -> None:
    """Rotary embeddings derive the width of a head from a number of heads that is not theirs any more: say it."""
    if group.kind == "heads" and hasattr(config, "rope_parameters") and getattr(config, "head_dim", None) is None:
        queries = next((group.config[name] for name in ("num_attention_heads", "n_head") if name in group.config), 1)
        setattr(config, BUILT, getattr(config, BUILT, {}) | {"head_dim": None})
        config.head_dim = group.sink.width // queries


def _agrees(field: Field, originals: Mapping[tuple[str, str], int]) -> bool:
    """Whether a field says what the shapes say, or what they said before any technique; it may mean something else.

    GPT-2's holds None where the number is four times the width.
    """
    now = getattr(field.config, field.name, None)
    built = getattr(field.config, BUILT, {}).get(field.name, now)
    before = {originals.get((group.name, group.kind), group.count) * per_unit for group, per_unit in field.groups}
    derived = field.name == "n_inner" and hasattr(field.config, field.name) and now is None
    return derived or [now] == [*field.numbers] or [built] == [*before]


def _own_name(config: Any, name: str) -> str:
    """Under which a config stores a field: it may answer to several names."""
    return str(getattr(config, "attribute_map", {}).get(name, name))


def _path(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """The model, and the modules of which the names lead to this one, which may go on below them."""
    module: Any = model
    yield module
    for part in filter(None, name.split(".")):
        module = dict(module.named_children()).get(part)
        if module is None:
            return
        yield module


def _config(module: nn.Module) -> Any:
    config = module.__dict__.get("config")  # its own: a wrapper finds that of the model inside
    return config if hasattr(config, "to_dict") else None
